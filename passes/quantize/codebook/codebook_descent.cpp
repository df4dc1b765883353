#include "passes/quantize/codebook/codebook_descent.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/linalg.h"
#include "kernels/native/transpose_matrix.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/codebook/codebook_entries.h"
#include "passes/quantize/codebook/codebook_rounding.h"
#include "passes/quantize/solver/add_multiple.h"
#include "passes/quantize/solver/output_gradient.h"

namespace tcompress::passes {
namespace {

/// Output channels that one task works on.
constexpr std::int64_t kTile = FeedbackStep::kMostChannels;
/// Input channels whose changes are handed on to the others together: whole pieces of 1, 2, 4 and 8.
constexpr std::int64_t kBlock = 128;

/// H_pp of a piece: L_BBᵀ (which rounding looks through) and the inverse.
struct PieceNorm {
    std::vector<float> factor, inverse;
};
PieceNorm pieceNorm(const OutputGradient& gradient, std::int64_t input, std::int64_t d) {
    std::vector<double> l(static_cast<std::size_t>(d * d)), inverse(l.size(), 0.0);
    for (std::int64_t i = 0; i < d; ++i)
        for (std::int64_t j = 0; j < d; ++j)
            l[static_cast<std::size_t>(i * d + j)] = gradient.h(input + i, input + j);
    kernels::cholesky(l, d);
    PieceNorm norm;
    for (std::int64_t i = 0; i < d; ++i) {
        inverse[static_cast<std::size_t>(i * d + i)] = 1;
        for (std::int64_t j = 0; j < d; ++j)
            norm.factor.push_back(j < i ? 0.0F : static_cast<float>(l[static_cast<std::size_t>(j * d + i)]));
    }
    kernels::solveTriangular(kernels::Triangle::lower, kernels::Transposition::no, l, d, inverse, d);
    kernels::solveTriangular(kernels::Triangle::lower, kernels::Transposition::yes, l, d, inverse, d);
    norm.inverse.assign(inverse.begin(), inverse.end());
    return norm;
}

class Descent {
  public:
    Descent(CodebookMatrix& matrix, const CodebookDescent& problem)
        : matrix_(matrix),
          problem_(problem),
          n_(matrix.inputs),
          channels_(matrix.channels),
          d_(matrix.dimension),
          gradient_(problem.secondMoment, n_, channels_, 0),
          scratch_(static_cast<std::size_t>(n_ * channels_)) {
        for (std::int64_t input = 0; input < n_; input += d_) norms_.push_back(pieceNorm(gradient_, input, d_));
        lookAgain();
    }

    void run() {
        for (std::int64_t sweep = 0; sweep < problem_.sweeps; ++sweep) {
            if (problem_.entries == Entries::moved) moveEntries();
            for (std::int64_t block = 0; block < matrix_.blocks(); ++block) moveScales(block);
            bool any = false;
            for (std::int64_t begin = 0; begin < n_; begin += kBlock)
                any = moveNumbers(begin, std::min(n_, begin + kBlock)) || any;
            if (!any) break;
        }
        if (problem_.entries == Entries::moved) moveEntries();
    }

  private:
    std::size_t place(std::int64_t input, std::int64_t channel) const {
        return static_cast<std::size_t>(input * channels_ + channel);
    }

    /// Values and gradient from the numbers, entries and scales.
    void lookAgain() {
        const std::vector<float> decoded = matrix_.decoded();
        values_.resize(decoded.size());
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            kernels::transposeMatrix(decoded.data() + first * n_, n_, last - first, n_, values_.data() + first,
                                     channels_);
            for (std::int64_t i = 0; i < n_; ++i)
                for (std::int64_t c = first; c < last; ++c)
                    scratch_[place(i, c)] = problem_.weights[place(i, c)] - values_[place(i, c)];
        });
        gradient_.product(0, n_, scratch_.data(), gradient_.values().data());
    }

    /// Of the values as they are.
    double loss() {
        std::vector<float> errors(values_.size());
        for (std::size_t i = 0; i < errors.size(); ++i) errors[i] = problem_.weights[i] - values_[i];
        const std::vector<double> sums = columnProducts(errors, gradient_.values(), channels_, 0, n_);
        double sum = 0;
        for (const double part : sums) sum += part;
        return sum;
    }

    /// The numbers of input channels [begin, end); true when one has moved.
    bool moveNumbers(std::int64_t begin, std::int64_t end) {
        std::vector<char> any(static_cast<std::size_t>((channels_ + kTile - 1) / kTile), 0);
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            const std::int64_t count = last - first;
            std::vector<float> local(static_cast<std::size_t>((end - begin) * kTile));
            std::vector<float> wanted(static_cast<std::size_t>(d_ * kTile));
            for (std::int64_t i = begin; i < end; ++i)
                std::copy_n(gradient_.row(i) + first, count, local.data() + (i - begin) * kTile);
            for (std::int64_t input = begin; input < end; input += d_) {
                const PieceNorm& norm = norms_[static_cast<std::size_t>(input / d_)];
                for (std::int64_t k = 0; k < d_; ++k) {
                    float* row = wanted.data() + k * kTile;
                    std::copy_n(values_.data() + place(input + k, first), count, row);
                    for (std::int64_t j = 0; j < d_; ++j)
                        addMultiple(row, local.data() + (input - begin + j) * kTile,
                                    norm.inverse[static_cast<std::size_t>(k * d_ + j)], count);
                }
                roundPieces(matrix_, {input, first, count, wanted.data(), norm.factor}, PieceStart::numbers);
                for (std::int64_t k = 0; k < d_; ++k) {
                    float* value = values_.data() + place(input + k, first);
                    float* moved = scratch_.data() + place(input + k, first);
                    for (std::int64_t c = 0; c < count; ++c) {
                        moved[c] = wanted[static_cast<std::size_t>(k * kTile + c)] - value[c];
                        value[c] += moved[c];
                        if (moved[c] != 0) any[static_cast<std::size_t>(first / kTile)] = 1;
                    }
                    for (std::int64_t other = input + d_; other < end; ++other)
                        addMultiple(local.data() + (other - begin) * kTile, moved, -gradient_.h(input + k, other),
                                    count);
                }
            }
        });
        if (std::find(any.begin(), any.end(), 1) == any.end()) return false;
        gradient_.add(begin, end, scratch_.data() + begin * channels_, -1);
        return true;
    }

    /// One group of each channel.
    void moveScales(std::int64_t block) {
        const std::int64_t begin = block * matrix_.block, end = std::min(n_, begin + matrix_.block);
        gradient_.product(begin, end, values_.data() + begin * channels_, scratch_.data());
        const std::vector<double> slope = columnProducts(values_, gradient_.values(), channels_, begin, end);
        const std::vector<double> curvature = columnProducts(values_, scratch_, channels_, begin, end);
        std::vector<float> shares(static_cast<std::size_t>(channels_), 0.0F);
        for (std::int64_t c = 0; c < channels_; ++c) {
            const auto at = static_cast<std::size_t>(c);
            float& scale = matrix_.scales[static_cast<std::size_t>(c * matrix_.blocks() + block)];
            if (!(curvature[at] > 0)) continue;
            const float moved = roundedToHalf(static_cast<float>(scale * (1 + slope[at] / curvature[at])));
            const double share = static_cast<double>(moved) / scale - 1;
            if (!(moved >= kSmallestHalfScale) || !(share * (2 * slope[at] - share * curvature[at]) > 0))
                continue;
            scale = moved;
            shares[at] = static_cast<float>(share);
        }
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            std::vector<float>& g = gradient_.values();
            for (std::int64_t i = 0; i < n_; ++i)
                for (std::int64_t c = first; c < last; ++c) {
                    const float share = shares[static_cast<std::size_t>(c)];
                    g[place(i, c)] -= share * scratch_[place(i, c)];
                    if (i >= begin && i < end) values_[place(i, c)] *= 1 + share;
                }
        });
    }

    void moveEntries() {
        const std::vector<CodebookStage> before = matrix_.stages;
        const double lossBefore = loss();
        changeEntries(matrix_, entryChange(matrix_, gradient_));
        sortLevels();
        lookAgain();
        if (loss() < lossBefore) return;
        matrix_.stages = before;
        lookAgain();
    }

    /// Levels of a channel that have passed each other, ascending again.
    void sortLevels() {
        if (d_ > 1) return;
        for (CodebookStage& stage : matrix_.stages)
            for (std::int64_t book = 0; book < matrix_.books; ++book) sortLevels(stage, book);
    }

    void sortLevels(CodebookStage& stage, std::int64_t book) {
        const auto levels = stage.entries.begin() + book * matrix_.size;
        if (std::is_sorted(levels, levels + matrix_.size)) return;
        std::vector<std::uint16_t> order(static_cast<std::size_t>(matrix_.size)), now(order.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint16_t>(i);
        std::stable_sort(order.begin(), order.end(),
                         [&](std::uint16_t a, std::uint16_t b) { return levels[a] < levels[b]; });
        for (std::size_t i = 0; i < order.size(); ++i) now[order[i]] = static_cast<std::uint16_t>(i);
        std::sort(levels, levels + matrix_.size);
        const std::int64_t first = matrix_.books == 1 ? 0 : book, last = matrix_.books == 1 ? channels_ : book + 1;
        for (auto code = stage.codes.begin() + first * matrix_.pieces();
             code != stage.codes.begin() + last * matrix_.pieces(); ++code)
            *code = now[*code];
    }

    CodebookMatrix& matrix_;
    const CodebookDescent& problem_;
    std::int64_t n_, channels_, d_;
    OutputGradient gradient_;
    std::vector<PieceNorm> norms_;  ///< of each piece
    std::vector<float> values_;     ///< V, [inputs, channels]
    std::vector<float> scratch_;    ///< [inputs, channels]
};

}  // namespace

void descend(CodebookMatrix& matrix, const CodebookDescent& problem) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(problem.weights.size()) == matrix.inputs * matrix.channels,
                    "the weights do not fit their codebook matrix");
    if (!problem.weights.empty()) Descent(matrix, problem).run();
}

}  // namespace tcompress::passes
