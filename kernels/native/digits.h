#pragma once
// Rows of float32 as integers of 24 bits on a scale of their own for each stretch of k: x ≈ unit · number.
// A number is stored as digits, whose products with codes are exact integer sums, two or four at an
// instruction: 3/4 of the multiplications of float32 arithmetic, half of them with crossed pairs
// (native/coded_kernel.h), and codes need not be converted to float32.
//
// The sum of a segment is put together in 32 bits without rounding, so that one multiply-add a segment and
// cell is all that follows in float32. That takes Σ |number| ≤ 2^(32 − bits) for codes of |code| ≤
// 2^(bits−1):
//   unit = max(max |x| / (127 · 65536), max over segments of Σ |x| / mostOfSegment(bits)).
// Each element is off by half a unit at most, 0.29 units in the root mean square. Σ |x| ≤ √segment · ‖x‖, so
// that a product with weights that do not conspire with the roundings is off by at most
//   0.29 · √stretch · max(2^-22.99, √segment · 2^-(32 − bits))
// of the root mean square of its results, whatever x: 6.3e-6 for stretches of 4096, 8 bits and segments of 32,
// 8.9e-6 for those of 64, 2.2e-6 for 4 bits. Normally distributed x makes 6e-7, 1.1e-6 and 3e-7 of it.

#include <cstdint>

namespace tcompress::kernels {

/// Longest segment for codes of `bits` bits: longer ones take fewer additions in float32, but coarser units.
constexpr std::int64_t mostSegment(int bits) { return bits == 8 ? 64 : 256; }

/// In units. Less than 2^(32 − bits) by more than half a unit for each number and what Σ |x| is rounded by in
/// float32, which is less than 2^-19 of it.
constexpr float mostOfSegment(int bits) {
    return static_cast<float>(std::int64_t{1} << (32 - bits)) * (1 - 0x1p-14F);
}

/// three: d₀ + 256·d₁ + 65536·d₂, signed bytes, of which an instruction multiplies four of the same place by
/// unsigned codes. two: d₀ + 256·d₁ with d₁ signed in 16 bits and d₀ an unsigned byte, by signed codes. The
/// numbers are the same.
enum class DigitForm { three, two };

/// Values of k whose digits lie side by side in kDigitGroupBytes, either d₀, d₁, d₂ of four k each, or d₁ of
/// the first, third, second and fourth k, then d₀ in order.
constexpr std::int64_t kDigitGroup = 4;
constexpr std::int64_t kDigitGroupBytes = 3 * kDigitGroup;

struct DigitRows {
    DigitForm form = DigitForm::three;
    int bits = 8;  // of the codes that the digits are multiplied by
    const float* a = nullptr;
    std::int64_t aStride = 0;
    std::int64_t rows = 0, k = 0;
    std::int64_t block = 0;         // a multiple of kDigitGroup; segments do not cross blocks
    std::int64_t segment = 0;       // a multiple of kDigitGroup, ≤ mostSegment(bits)
    std::int64_t stretch = 0;       // whole blocks, or whole segments of the only block or of one it divides
    std::int64_t part = 0;          // of a stretch: k whose digits lie together
    std::int64_t stripRows = 1;     // rows whose groups lie side by side
    std::int8_t* digits = nullptr;  // [part][strip][groups][stripRows][kDigitGroupBytes]; beyond k zeros
    std::int64_t groups = 0;        // of a row
    float* units = nullptr;         // [row][stretches], rows unitStride apart
    std::int64_t unitStride = 0;
    std::int32_t* sums = nullptr;   // Σ number over each segment, [row][segments]
    /// For crossed pairs of codes (native/coded_kernel.h), else null: −256 · Σ over each segment of the products
    /// of the d₁ of the first and second and of the third and fourth k, modulo 2^32,
    /// [strip][segments][stripRows].
    std::int32_t* products = nullptr;

    std::int64_t strips() const { return (rows + stripRows - 1) / stripRows; }
    std::int64_t groupBytes() const { return stripRows * kDigitGroupBytes; }
    std::int64_t sizeBytes() const { return strips() * groups * groupBytes(); }
    std::int64_t stretches() const { return (k + stretch - 1) / stretch; }
    std::int64_t segmentsPerBlock() const { return (block + segment - 1) / segment; }
    std::int64_t segments() const { return (k + block - 1) / block * segmentsPerBlock(); }
    /// The number of the segment that begins there.
    std::int64_t segmentAt(std::int64_t begin) const {
        return begin / block * segmentsPerBlock() + begin % block / segment;
    }
    /// The end of the stretch or part that begins there.
    std::int64_t stretchEnd(std::int64_t begin) const { return begin + stretch < k ? begin + stretch : k; }
    std::int64_t partEnd(std::int64_t begin) const {
        const std::int64_t last = stretchEnd(begin / stretch * stretch);
        return begin + part < last ? begin + part : last;
    }
    /// Of the part that begins there, with all that is beyond k.
    std::int64_t partGroups(std::int64_t begin) const {
        const std::int64_t end = partEnd(begin);
        return (end < k ? end / kDigitGroup : groups) - begin / kDigitGroup;
    }
    /// Of that part, the strip's digits.
    std::int8_t* digitsOf(std::int64_t begin, std::int64_t strip) const {
        return digits + (begin / kDigitGroup * strips() + partGroups(begin) * strip) * groupBytes();
    }
};
enum class Units { found, notFinite };
/// Of each stretch of each row. notFinite: A has infinities or NaN, which have no digits.
Units findUnits(const DigitRows& rows);
/// Digits, sums and products, by these units.
void splitIntoDigits(const DigitRows& rows);

}  // namespace tcompress::kernels
