#include "passes/support/sparse_admm.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <span>
#include <tuple>
#include <utility>

#include "kernels/linalg.h"
#include "kernels/matmul.h"
#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

/// ρ begins at this share of the scaled H's diagonal and grows by this factor after so many rounds each: on layers of
/// MiniLM twice the rounds at half the growth gain a hundredth of the error.
constexpr float kFirstPenalty = 0.1F, kGrowth = 1.5F;
constexpr int kRoundsAPenalty = 3, kPenalties = 8;
/// Outputs that one task works on.
constexpr std::int64_t kOutputsAtOnce = 16;

/// Clears the flags of the `count` smallest scores (none negative), of equal ones the first. `stays` is all set.
void dropSmallest(std::span<const float> scores, std::int64_t count, std::span<char> stays) {
    if (count <= 0) return;
    // Bits of numbers that are not negative order like the numbers: cells by their upper half are finer than a hundredth.
    const auto cellOf = [&](std::size_t i) { return std::bit_cast<std::uint32_t>(scores[i]) >> 16; };
    std::vector<std::int64_t> cells(std::size_t{1} << 16);
    for (std::size_t i = 0; i < scores.size(); ++i) ++cells[cellOf(i)];
    std::uint32_t cell = 0;
    std::int64_t below = 0;
    while (below + cells[cell] < count) below += cells[cell++];
    std::vector<std::pair<float, std::size_t>> inCell;
    for (std::size_t i = 0; i < scores.size(); ++i) {
        const std::uint32_t own = cellOf(i);
        if (own < cell) stays[i] = 0;
        if (own == cell) inCell.emplace_back(scores[i], i);
    }
    const auto end = inCell.begin() + (count - below);
    std::nth_element(inCell.begin(), end - 1, inCell.end());
    for (auto place = inCell.begin(); place != end; ++place) stays[place->second] = 0;
}

/// Decides which weights stay, by their squares. Matrices are outputs × inputs.
class Projection {
  public:
    Projection(const SparsePattern& pattern, double sparsity, std::int64_t inputs, std::int64_t outputs)
        : pattern_(pattern), inputs_(inputs), outputs_(outputs), stays_(static_cast<std::size_t>(inputs * outputs)) {
        if (pattern_.isGrouped()) return;
        blocks_.resize(stays_.size() / static_cast<std::size_t>(pattern.inputs * pattern.outputs));
        blockStays_.resize(blocks_.size());
        gone_ = static_cast<std::int64_t>(std::floor(sparsity * static_cast<double>(blocks_.size()) + 1e-9));
    }

    /// One flag a weight, until the next call.
    std::span<const char> operator()(std::span<const float> squares) {
        std::fill(stays_.begin(), stays_.end(), 1);
        if (pattern_.isGrouped())
            chooseGrouped(squares);
        else if (pattern_.inputs == 1 && pattern_.outputs == 1)
            dropSmallest(squares, gone_, stays_);
        else
            chooseBlocks(squares);
        return stays_;
    }

  private:
    void chooseGrouped(std::span<const float> squares) {
        parallelRanges(outputs_, kOutputsAtOnce, [&](std::int64_t begin, std::int64_t end) {
            std::vector<std::pair<float, std::int64_t>> group(static_cast<std::size_t>(pattern_.group));
            for (std::int64_t first = begin * inputs_; first < end * inputs_; first += pattern_.group) {
                for (std::int64_t i = 0; i < pattern_.group; ++i)
                    group[static_cast<std::size_t>(i)] = {-squares[static_cast<std::size_t>(first + i)], first + i};
                std::nth_element(group.begin(), group.begin() + pattern_.keep, group.end());
                for (auto gone = group.begin() + pattern_.keep; gone != group.end(); ++gone)
                    stays_[static_cast<std::size_t>(gone->second)] = 0;
            }
        });
    }

    void chooseBlocks(std::span<const float> squares) {
        const std::int64_t across = inputs_ / pattern_.inputs;
        const auto blockOf = [&](std::size_t weight) {
            const auto place = static_cast<std::int64_t>(weight);
            return static_cast<std::size_t>(place / inputs_ / pattern_.outputs * across + place % inputs_ / pattern_.inputs);
        };
        std::fill(blocks_.begin(), blocks_.end(), 0.0F);
        for (std::size_t i = 0; i < squares.size(); ++i) blocks_[blockOf(i)] += squares[i];
        std::fill(blockStays_.begin(), blockStays_.end(), 1);
        dropSmallest(blocks_, gone_, blockStays_);
        for (std::size_t i = 0; i < stays_.size(); ++i) stays_[i] = blockStays_[blockOf(i)];
    }

    SparsePattern pattern_;
    std::int64_t inputs_, outputs_, gone_ = 0;  ///< blocks that go
    std::vector<char> stays_, blockStays_;
    std::vector<float> blocks_;
};

/// ρ · (H + ρI)⁻¹, ready for products.
kernels::PackedWeightsPtr pull(const std::vector<double>& hessian, std::int64_t inputs, double penalty) {
    std::vector<double> inverse = hessian;
    for (std::int64_t i = 0; i < inputs; ++i) inverse[static_cast<std::size_t>(i * inputs + i)] += penalty;
    kernels::invertPositiveDefinite(inverse, inputs);
    std::vector<float> narrow(inverse.size());
    for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = static_cast<float>(penalty * inverse[i]);
    return kernels::packWeights(narrow.data(), inputs, inputs);
}

/// Turns a matrix of `rows` rows about.
template <class From, class To>
void transpose(const From& from, std::int64_t rows, To& to) {
    const auto columns = static_cast<std::int64_t>(from.size()) / rows;
    parallelRanges(columns, kOutputsAtOnce, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = 0; row < rows; ++row)
            for (std::int64_t column = begin; column < end; ++column)
                to[static_cast<std::size_t>(column * rows + row)] =
                    static_cast<typename To::value_type>(from[static_cast<std::size_t>(row * columns + column)]);
    });
}

}  // namespace

SparseWeights alternatingDirections(const std::vector<double>& hessian, const std::vector<double>& optimum,
                                    std::int64_t outputs, const SparsePattern& pattern, double sparsity,
                                    const SparseMask& first) {
    const auto inputs = static_cast<std::int64_t>(optimum.size()) / outputs;
    const auto each = [&](const auto& body) {
        parallelRanges(static_cast<std::int64_t>(optimum.size()), kOutputsAtOnce * inputs, [&](std::int64_t begin, std::int64_t end) {
            for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) body(i);
        });
    };
    std::vector<double> scales, scaled = hessian;
    for (std::int64_t i = 0; i < inputs; ++i) scales.push_back(std::sqrt(hessian[static_cast<std::size_t>(i * inputs + i)]));
    for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] /= scales[i / scales.size()] * scales[i % scales.size()];

    // Outputs × inputs: the symmetric (H + ρI)⁻¹ is the packed operand of all products.
    std::vector<float> target(optimum.size()), turned(optimum.size()), difference(optimum.size()), squares(optimum.size());
    transpose(optimum, inputs, target);
    each([&](std::size_t i) { target[i] *= static_cast<float>(scales[i % scales.size()]); });
    std::vector<char> goes(first.begin(), first.end()), goesFirst(optimum.size(), 0);
    if (!goes.empty()) transpose(goes, inputs, goesFirst);

    Projection projection(pattern, sparsity, inputs, outputs);
    std::span<const char> stays;
    const auto project = [&](const std::vector<float>& values) {
        each([&](std::size_t i) { squares[i] = goesFirst[i] != 0 ? 0.0F : values[i] * values[i]; });
        stays = projection(squares);
    };
    // D − U: where a weight stays U is 0, elsewhere D is.
    project(target);
    each([&](std::size_t i) { turned[i] = stays[i] != 0 ? target[i] : 0.0F; });
    double penalty = kFirstPenalty;
    for (int p = 0; p < kPenalties; ++p, penalty *= kGrowth) {
        const kernels::PackedWeightsPtr packed = pull(scaled, inputs, penalty);
        for (int round = 0; round < kRoundsAPenalty; ++round) {
            // X = W* + ρ·(H + ρI)⁻¹·(D − U − W*)
            each([&](std::size_t i) { difference[i] = turned[i] - target[i]; });
            std::vector<float>& x = squares;
            kernels::PackedMatmul call;
            call.a = difference.data();
            call.aStride = call.cStride = call.epilogue.residualStride = inputs;
            call.m = outputs;
            call.weights = packed.get();
            call.c = x.data();
            call.epilogue.residual = target.data();
            kernels::matmul(call);
            each([&](std::size_t i) { difference[i] = x[i] - (stays[i] != 0 ? 0.0F : turned[i]); });
            project(difference);
            // U is the multiplier's part of ρ: it shrinks as ρ grows.
            const float kept = round + 1 == kRoundsAPenalty ? 1 / kGrowth : 1.0F;
            each([&](std::size_t i) { turned[i] = stays[i] != 0 ? difference[i] : -kept * difference[i]; });
        }
    }
    SparseWeights result{SparseMask(optimum.size()), std::vector<double>(optimum.size())};
    each([&](std::size_t i) { turned[i] = stays[i] != 0 ? turned[i] / static_cast<float>(scales[i % scales.size()]) : 0.0F; });
    transpose(turned, outputs, result.weights);
    std::vector<char> mask(optimum.size());
    transpose(std::vector<char>(stays.begin(), stays.end()), outputs, mask);
    std::copy(mask.begin(), mask.end(), result.mask.begin());
    return result;
}

}  // namespace tcompress::passes
