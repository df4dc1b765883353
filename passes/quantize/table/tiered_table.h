#pragma once
// An embedding table whose rows lie in several tables of different formats, behind one map from row numbers
// to places.
//
//   Gather(table, ids)  →  place = Cast(Gather(map, ids))
//                          rows₀ = table₀[min(place, n₀ − 1)],  rows₁ = table₁[clip(place − n₀, 0, n₁ − 1)],
//                          … Where(place < n₀, rows₀, Where(place < n₀ + n₁, rows₁, …))
//
// Every table decodes as many rows as are looked up, whichever of them are its own: a few more rows of
// arithmetic instead of a dynamic shape.

#include <functional>
#include <vector>

#include "lib/ir/edit.h"

namespace tcompress::passes {

/// One of the tables: how many rows it has, and how they are read.
struct TablePart {
    std::int64_t rows = 0;
    std::function<ir::Value*(ir::Value* indices, std::int64_t indexRank)> read;
};

class TieredTable {
  public:
    /// `order`: row number at each place, all parts' rows one after another. One part needs no map.
    TieredTable(ir::Edit& edit, const std::string& name, const std::vector<std::int64_t>& order,
                std::vector<TablePart> parts);

    /// Replaces what the Gather (of rows, with indices of a known rank) puts out.
    void readBy(ir::Node& gather);

    /// Bytes of the map of a table of `rows` rows.
    static std::int64_t mapBytes(std::int64_t rows);

  private:
    ir::Value* clipped(ir::Value* place, std::int64_t begin, std::int64_t rows);

    ir::Edit& edit_;
    std::vector<TablePart> parts_;
    ir::Value* map_ = nullptr;  ///< uint16 or int32 [rows]; null with one part
};

}  // namespace tcompress::passes
