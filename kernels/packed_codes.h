#pragma once
// The packed form of a coded matrix: panels of kPanelColumns columns, [panel][group][column] 32-bit words; a
// word holds 32 / bits codes of neighbouring k of its column. Code i of a word is in byte i mod 4, so that
// one shift and mask gives four neighbouring k as bytes. Codes are signed inside: lowered by 2^(bits−1), as
// their zero points are, so that decoding one is a shift up and an arithmetic shift down.

#include <vector>

#include "kernels/aligned_buffer.h"
#include "kernels/matmul_coded.h"
#include "kernels/native/gemm_kernel.h"
#include "kernels/tiles.h"

namespace tcompress::kernels {

/// The lowest bit of code `index` in its word.
constexpr int codePosition(int bits, int index) { return 8 * (index % 4) + bits * (index / 4); }

class PackedCodes {
  public:
    std::int64_t k = 0, n = 0;
    int bits = 4;
    std::int64_t block = 0;  // a multiple of a word's codes
    AlignedBuffer<std::uint32_t> words;
    AlignedBuffer<float> scales;  // [panel][block][kPanelColumns]
    AlignedBuffer<float> zeros;   // the same; empty when all are `zero`
    float zero = 0;

    std::int64_t codesPerWord() const { return 32 / bits; }
    std::int64_t groups() const { return ceilDivide(k, codesPerWord()); }
    std::int64_t blocks() const { return ceilDivide(k, block); }
    std::int64_t panels() const { return ceilDivide(n, kPanelColumns); }
    const std::uint32_t* panel(std::int64_t index) const {
        return words.data() + index * groups() * kPanelColumns;
    }
    const float* panelScales(std::int64_t index) const {
        return scales.data() + index * blocks() * kPanelColumns;
    }
    const float* panelZeros(std::int64_t index) const {
        return zeros.size() > 0 ? zeros.data() + index * blocks() * kPanelColumns : nullptr;
    }
    /// W[k, n].
    float value(std::int64_t row, std::int64_t column) const;
};

}  // namespace tcompress::kernels
