#pragma once
// How near a compressed model's outputs stay to the original's, gathered batch by batch: a few numbers a
// sample are kept, never the outputs (but the pooled rows of the first samples, which neighbourAgreement
// compares with each other).

#include <cstdint>
#include <span>
#include <vector>

#include "lib/measure/evaluate.h"
#include "lib/measure/rows.h"
#include "lib/measure/statistics.h"

namespace tcompress::measure {

class FidelityScores {
  public:
    FidelityScores(ScoreKind kind, std::int64_t neighbourSamples)
        : kind_(kind), neighbourSamples_(neighbourSamples) {}

    /// One batch of the same output of both models: one shape, the first axis counts samples. `mask` holds
    /// one value for each position [B, T] of a [B, T, C] output, 0 = padding; empty = no mask.
    void add(const Tensor& original, const Tensor& compressed, std::span<const std::int64_t> mask);

    Fidelity result(const Bootstrap& options) const;

  private:
    struct Sample {
        double dot = 0, originalSquares = 0, compressedSquares = 0, errorSquares = 0, largestError = 0;
        double pooledCosine = 0;
        double klSum = 0, agreements = 0, rows = 0;
        bool finite = true;
        bool pooled = false;
    };
    Sample compare(std::span<const float> original, std::span<const float> compressed, std::int64_t rowLength,
                   std::span<const std::int64_t> mask) const;
    Estimate neighbourAgreement() const;

    ScoreKind kind_;
    std::int64_t neighbourSamples_;
    std::vector<Sample> samples_;
    std::size_t pooledLength_ = 0;
    std::vector<float> pooledOriginal_, pooledCompressed_;  ///< unit rows [n, pooledLength_]
};

/// Cosine from sums; two zero vectors are equal (1), one zero vector has nothing in common with the other
/// (0).
double cosine(double dot, double firstSquares, double secondSquares);

/// For each unit row the other row with the largest dot product (the first of equals). rows: [count, length].
std::vector<std::int32_t> nearestOthers(std::span<const float> rows, std::size_t length);

}  // namespace tcompress::measure
