#pragma once
// Rows of float32 as numbers of 24 bits on a scale of their own for each segment of k: x ≈ unit · number,
// unit = max|x| / (127 · 65536). Half a unit and the roundings of the scale make an error of at most 2^-22 of
// the segment's largest element, 2^-24 as a rule: what float32 itself rounds a sum of that size by. A number
// is stored as digits, whose products with codes of 8 bits are exact integer sums, two or four at an
// instruction, so that a product in float32's accuracy takes 3/4 of the instructions of float32 arithmetic,
// and codes need not be converted to float32.

#include <cstdint>

namespace tcompress::kernels {

/// Longest segment whose sums of 255 · digits fit 32 bits with 8 bits to spare.
constexpr std::int64_t kMostSegment = 256;

/// three: d₀ + 256·d₁ + 65536·d₂, signed bytes, of which an instruction multiplies four of the same place by
/// unsigned codes. two: d₀ + 256·d₁ with d₁ signed in 16 bits and d₀ an unsigned byte, by signed codes.
enum class DigitForm { three, two };

/// Values of k whose digits lie side by side: [k / 4][kDigitGroupBytes], either d₀, d₁, d₂ of four k each, or
/// d₁ of the first, third, second and fourth k, then d₀ in order.
constexpr std::int64_t kDigitGroup = 4;
constexpr std::int64_t kDigitGroupBytes = 3 * kDigitGroup;

struct DigitRows {
    DigitForm form = DigitForm::three;
    const float* a = nullptr;
    std::int64_t aStride = 0;
    std::int64_t rows = 0, k = 0;
    std::int64_t block = 0;         // a multiple of kDigitGroup; segments do not cross blocks
    std::int64_t segment = 0;       // a multiple of kDigitGroup, ≤ kMostSegment
    std::int8_t* digits = nullptr;  // [row][groups][kDigitGroupBytes]; beyond k zeros
    std::int64_t groups = 0;        // of a row
    float* units = nullptr;         // [row][segments]
    float* sums = nullptr;          // Σ a over each segment, [row][segments]
};
enum class Split { done, notFinite };
/// notFinite: A has infinities or NaN, which have no digits.
Split splitIntoDigits(const DigitRows& rows);

}  // namespace tcompress::kernels
