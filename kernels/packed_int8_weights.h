#pragma once
// The packed form of an 8-bit B. It is always signed inside: uint8 values and zero points are lowered by 128,
// which changes no difference (b − zero point). Panels for our own kernels (native/int8_kernel.h); column
// blocks in oneDNN's layout where that has matrix units (AMX) that ours do not use.

#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/matmul_int8.h"
#include "kernels/native/int8_kernel.h"
#include "kernels/onednn/int8_matmul.h"
#include "kernels/tiles.h"

namespace tcompress::kernels {

enum class Int8Form { panels, onednnBlocks };
/// The faster one on this processor.
Int8Form bestInt8Form();

class PackedInt8Weights {
  public:
    std::int64_t k = 0, n = 0;
    Int8Form form = Int8Form::panels;
    AlignedBuffer<std::int8_t> panels;  // the last group of k and the last columns filled up with zeros
    std::int64_t blockColumns = 0;      // of every block but the last
    std::vector<onednn::Int8Block> blocks;
    std::vector<std::int32_t> zeroPoints;  // one a column; empty when all are zero
    std::vector<std::int32_t> columnSums;  // Σ_k (b − zero point), one a column

    std::int64_t panelBytes() const { return ceilDivide(k, kInt8Group) * kInt8PanelBytesPerGroup; }
    const std::int8_t* panel(std::int64_t index) const { return panels.data() + index * panelBytes(); }
    /// Row-major [K, N], whichever form is held.
    std::vector<std::int8_t> values() const;
};

/// packInt8Weights in a form that is asked for.
PackedInt8WeightsPtr packInt8Weights(const void* b, DType type, std::int64_t k, std::int64_t n,
                                     std::int64_t rowStride, std::int64_t columnStride,
                                     std::span<const std::int32_t> zeroPoints, Int8Form form);

}  // namespace tcompress::kernels
