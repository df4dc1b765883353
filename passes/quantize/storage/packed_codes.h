#pragma once
// Codes of 1 to 16 bits stored without waste in uint8 initializers, and the standard operators that unpack
// them (opset 11).
//
// A code is cut into fields of 8, 4, 2 and 1 bits, high bits first (5 = 4 + 1, 10 = 8 + 2), and the fields of
// one width make a plane in which 8 / width of them share a byte, the first in the low bits. One plane is
// unpacked by
//
//   bytes [.., m] → Reshape [.., m, 1] → BitShift left by (8 − w, 8 − 2w … 0) → BitShift right by 8 − w
//                 → Cast to float32 → Reshape [.., m · 8 / w]
//
// and planes are joined as high · 2ʷ + low in float32, where all codes are exact. Runtimes fold this when the
// bytes are constant; of a table only the rows that were looked up are unpacked.
//
// Codes 0, 1 and 2 can be packed as digits of base 3 instead, five to a byte (1.6 bits each):
//
//   bytes [.., m] → Reshape [.., m, 1] → Cast to int32 → Div by (1, 3, 9, 27, 81) → Mod 3 → Cast → Reshape

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "lib/ir/edit.h"

namespace tcompress::passes {

enum class Packing {
    fields,  ///< bits
    trits    ///< digits of base 3: codes of 2 bits without the fourth
};

/// Widths of the fields that a code of `bits` bits is cut into, high bits first.
std::vector<int> planeWidths(int bits);

/// Writes the codes of a row from entry `first` on; called from several threads at once.
using CodesOfRow = std::function<void(std::int64_t row, std::int64_t first, std::span<std::uint16_t> codes)>;

class PackedCodes {
  public:
    /// Adds the initializers for [rows, entries] codes. Rows are padded with zero codes to whole bytes.
    PackedCodes(ir::Edit& edit, const std::string& name, int bits, std::int64_t rows, std::int64_t entries,
                const CodesOfRow& codes, Packing packing = Packing::fields);
    /// The same of codes that lie in memory.
    PackedCodes(ir::Edit& edit, const std::string& name, int bits, std::span<const std::uint16_t> codes,
                std::int64_t rows, Packing packing = Packing::fields);

    /// Entries of a row as they are unpacked, padding included.
    std::int64_t entries() const { return entries_; }

    /// float32 [rows, entries()].
    ir::Value* all();
    /// The rows that `indices` (of rank `indexRank`) name: float32 [indices…, entries()]. `gather`, when
    /// given, is a Gather by these indices that becomes the first plane's, so that its name stays.
    ir::Value* rows(ir::Value* indices, std::int64_t indexRank, ir::Node* gather = nullptr);

    /// What reads the stored bytes or the output of `gather`: its first users, that an edit which replaces
    /// the output must leave out.
    const std::vector<const ir::Node*>& firstReaders() const { return firstReaders_; }

    /// Bytes that `rows` rows of `entries` codes take.
    static std::int64_t sizeBytes(int bits, std::int64_t rows, std::int64_t entries,
                                  Packing packing = Packing::fields);

  private:
    ir::Value* unpacked(ir::Value* bytes, int width, const std::vector<std::int64_t>& leading);
    ir::Value* unpackedTrits(ir::Value* bytes, const std::vector<std::int64_t>& leading);
    ir::Value* apart(ir::Value* bytes, int perByte, const std::vector<std::int64_t>& leading);
    ir::Value* together(ir::Value* fields, const std::vector<std::int64_t>& leading);
    ir::Value* joined(const std::vector<ir::Value*>& bytes, const std::vector<std::int64_t>& leading);

    ir::Edit& edit_;
    Packing packing_;
    std::vector<int> widths_;  ///< of fields; trits are one plane
    std::int64_t rows_ = 0;
    std::int64_t entries_ = 0;
    std::vector<ir::Value*> planes_;  ///< uint8 [rows, bytes], one a width
    std::vector<const ir::Node*> firstReaders_;
};

}  // namespace tcompress::passes
