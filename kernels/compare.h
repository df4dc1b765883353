#pragma once
// How near two float32 arrays are. Sums in float64 over fixed chunks, so results do not depend on the thread
// count.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

struct Difference {
    std::int64_t count = 0;
    double dot = 0;          // Σ a·b
    double squareA = 0;      // Σ a²
    double squareB = 0;      // Σ b²
    double squareError = 0;  // Σ (a − b)²
    double maxAbsError = 0;  // NaN when one side alone is NaN
    double maxAbsA = 0;

    Difference& operator+=(const Difference& other);
    /// Cosine similarity; 1 when both are all zero, 0 when one is.
    double cosine() const;
    /// Signal to quantization noise in dB with a as the signal: 10·log10(Σa² / Σ(a−b)²); +inf when equal.
    double sqnrDb() const;
    double meanSquareError() const;
};
/// a is the original, b the approximation. Sizes must be equal.
Difference difference(std::span<const float> a, std::span<const float> b);

double cosine(std::span<const float> a, std::span<const float> b);

}  // namespace tcompress::kernels
