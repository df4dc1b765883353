#pragma once
// The packed form of an 8-bit B. It is always signed inside: uint8 values and zero points are lowered by 128,
// which changes no difference (b − zero point). Column blocks by oneDNN, or row-major where it refuses.

#include <vector>

#include "kernels/matmul_int8.h"
#include "kernels/onednn/int8_matmul.h"

namespace tcompress::kernels {

class PackedInt8Weights {
  public:
    std::int64_t k = 0, n = 0;
    std::int64_t blockColumns = 0;  // of every block but the last
    std::vector<onednn::Int8Block> blocks;
    std::vector<std::int8_t> plain;        // [K, N], when there are no blocks
    std::vector<std::int32_t> zeroPoints;  // one a column; empty when all are zero
    std::vector<std::int32_t> columnSums;  // Σ_k (b − zero point), one a column

    /// Row-major [K, N], whichever form is held.
    std::vector<std::int8_t> values() const;
};

}  // namespace tcompress::kernels
