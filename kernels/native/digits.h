#pragma once
// Rows of float32 as three signed 8-bit digits on a scale of their own for each segment of k: x ≈ unit · (d₀
// + 256·d₁ + 65536·d₂), unit = max|x| / (127 · 65536). Half a unit and the roundings of the scale make an
// error of at most 2^-22 of the segment's largest element, 2^-24 as a rule: what float32 itself rounds a sum
// of that size by. Products of digits with 8-bit codes are exact integer sums, four at an instruction, which
// makes a product in float32's accuracy cheaper than float32 arithmetic when codes would have to be converted
// first.

#include <cstdint>

namespace tcompress::kernels {

/// Longest segment whose sums of 255 · digits fit 32 bits with 8 bits to spare.
constexpr std::int64_t kMostSegment = 256;

struct DigitRows {
    const float* a = nullptr;
    std::int64_t aStride = 0;
    std::int64_t rows = 0, k = 0;
    std::int64_t block = 0;       // segments do not cross blocks
    std::int64_t segment = 0;     // ≤ kMostSegment
    std::int8_t* digits[3] = {};  // [row][stride]; beyond k zeros
    std::int64_t stride = 0;
    float* units = nullptr;  // [row][segments]
    float* sums = nullptr;   // Σ a over each segment, [row][segments]
};
enum class Split { done, notFinite };
/// notFinite: A has infinities or NaN, which have no digits.
Split splitIntoDigits(const DigitRows& rows);

}  // namespace tcompress::kernels
