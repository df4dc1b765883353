#pragma once
// Constants of which a file holds only the entries that differ from a fill value:
//
//   codes → Cast → Gather(patterns, ·) → Cast → Reshape [-1] = marks        1 where an entry is stored, else 0
//   Gather(values, CumSum(marks) · marks) → [Slice] → Reshape → [Transpose]  values[0] is the fill value
//
// passes/store_sparse writes this; whoever counts weights or looks for them knows it by these relations.

#include <cstdint>
#include <optional>

#include "lib/ir/graph.h"

namespace tcompress::analysis {

struct SparseStorage {
    const ir::Value* values = nullptr;    ///< the fill value, then the entries that are stored
    const ir::Value* codes = nullptr;     ///< which pattern each run of entries has
    const ir::Value* patterns = nullptr;  ///< [patterns, run]: marks
    std::int64_t elements = 0;            ///< of the constant as it is computed; 0: not known
};

/// The storage that this look-up of values belongs to; nothing when it is another Gather.
std::optional<SparseStorage> sparseStorage(const ir::Node& gather);
/// Whether the Reshape gives such a constant its shape. Runs of entries end anywhere in it: its axes are no axes of what it
/// is made of.
bool restoresSparse(const ir::Node& reshape);
/// The storage behind an operand, through what moves, casts or dequantizes it.
std::optional<SparseStorage> sparseStorageBehind(const ir::Value* operand);

}  // namespace tcompress::analysis
