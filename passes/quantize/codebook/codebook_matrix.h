#pragma once
// A matrix of weights as numbers of codebook entries: the levels are not evenly spaced, or pieces of several
// weights share a number. How the entries are found and the numbers chosen; codebook_storage.h puts them into
// a graph.
//
//   levels     w ≈ level[code] · scale of the group           the same levels for all (levels.h)
//   k-means    w ≈ level[channel, code]                        the best levels of each channel
//   vectors    piece ≈ (entry₁[code₁] + entry₂[code₂]) · scale of the channel   (vector_codebook.h)
//
// Numbers are the nearest entries or, with the second moments of what the layer reads, chosen by error
// feedback (error_feedback.h); then entries, scales and numbers move in turns (codebook_descent.h).
//
// Source: vectors with a second codebook of what the first one leaves: Egiazarian et al. 2024, "Extreme
// Compression of Large Language Models via Additive Quantization"; with error feedback: van Baalen et al.
// 2024, "GPTVQ". The papers' own searches (beams, gradient steps) are not done.

#include <cstdint>
#include <span>
#include <vector>

#include "lib/support/random.h"
#include "passes/quantize/codebook/codebook.h"
#include "passes/quantize/solver/error_feedback.h"

namespace tcompress::passes {

/// One codebook and the numbers of its entries.
struct CodebookStage {
    /// [books, size, dimension], exactly representable in float16; with dimension 1 ascending.
    std::vector<float> entries;
    std::vector<std::uint16_t> codes;  ///< [channels, inputs / dimension]
};

struct CodebookMatrix {
    std::int64_t channels = 0;
    std::int64_t inputs = 0;     ///< weights of a channel, a multiple of the dimension
    std::int64_t dimension = 1;  ///< weights that share a number
    std::int64_t size = 0;       ///< entries of a codebook; a power of two
    std::int64_t books = 1;      ///< 1, or one for each channel (dimension 1, one stage)
    /// What they stand for is added up.
    std::vector<CodebookStage> stages;
    std::int64_t block = 0;     ///< inputs that share a scale, a multiple of the dimension; 0: no scales
    std::vector<float> scales;  ///< [channels, blocks()], exactly representable in float16

    std::int64_t blocks() const { return block == 0 ? 0 : (inputs + block - 1) / block; }
    std::int64_t pieces() const { return inputs / dimension; }
    /// [channels, inputs].
    std::vector<float> decoded() const;
};

/// Without scales: codes [channels, inputs / dimension] of a codebook that is there already.
CodebookMatrix numbered(const Codebook& codebook, std::span<const std::uint16_t> codes, std::int64_t channels);

/// `weights` of all these: [channels, inputs], finite. `importance`, one an input: what squared errors there
/// count. The result has entries and scales, and the numbers of what is nearest.
struct WeightMatrix {
    std::span<const float> weights;
    std::int64_t channels = 0;
    std::int64_t inputs = 0;
    std::vector<float> importance;
};

/// One set of levels (ascending, the largest 1) for all; groups of `block` inputs have the scale with the
/// least squared error of a fixed grid of scales.
CodebookMatrix withLevels(const WeightMatrix& matrix, std::vector<float> levels, std::int64_t block);

/// The best `size` levels of each channel.
CodebookMatrix withBestLevels(const WeightMatrix& matrix, std::int64_t size);

/// Chooses all numbers again, by what the layer's output loses. problem.weights is the same matrix as [inputs,
/// channels]; `secondMoment`, `damp`: of its inputs (feedbackFactor).
void chooseByFeedback(CodebookMatrix& matrix, const ErrorFeedback& problem, std::span<const double> secondMoment,
                      double damp);

}  // namespace tcompress::passes
