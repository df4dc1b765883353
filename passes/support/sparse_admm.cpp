#include "passes/support/sparse_admm.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "lib/support/parallel.h"
#include "passes/support/proximal_step.h"
#include "passes/support/sparse_optimum.h"
#include "passes/support/sparse_projection.h"

namespace tcompress::passes {
namespace {

/// ρ begins at this share of the scaled metric's diagonal and grows by a factor after so many rounds each.
struct Schedule {
    float firstPenalty;
    int penalties;
};
/// On layers of MiniLM twice the rounds at half the growth gain a hundredth of the error.
constexpr Schedule kOfInputs{0.1F, 8};
/// Products of eigenvalues spread wider: on layers of MiniLM-L6 kOfInputs leaves a sixth to a third more of the error, and a start
/// at 0.001 at most a hundredth less. It ends at the same penalty: one that ended at a third of it left blocks unsettled.
constexpr Schedule kOfBoth{0.01F, 14};
constexpr float kGrowth = 1.5F;
constexpr int kRoundsAPenalty = 3;
/// Outputs that one task works on.
constexpr std::int64_t kOutputsAtOnce = 16;

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

/// A metric scaled so that its diagonal is 1, and the roots of what that was.
struct UnitDiagonal {
    explicit UnitDiagonal(std::vector<double> metric) : matrix(std::move(metric)) {
        const auto size = static_cast<std::size_t>(std::llround(std::sqrt(matrix.size())));
        for (std::size_t i = 0; i < size; ++i) scales.push_back(std::sqrt(matrix[i * size + i]));
        for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] /= scales[i / scales.size()] * scales[i % scales.size()];
    }
    std::vector<double> matrix, scales;
};

}  // namespace

SparseWeights alternatingDirections(std::vector<double> hessian, const std::vector<double>& optimum,
                                    std::int64_t outputs, const SparsePattern& pattern, double sparsity,
                                    const SparseMask& first, const std::vector<double>& outputMetric) {
    const auto inputs = static_cast<std::int64_t>(optimum.size()) / outputs;
    const auto each = [&](const auto& body) {
        parallelRanges(static_cast<std::int64_t>(optimum.size()), kOutputsAtOnce * inputs, [&](std::int64_t begin, std::int64_t end) {
            for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) body(i);
        });
    };
    UnitDiagonal ofInputs(std::move(hessian)), ofOutputs(conditioned(outputMetric, outputs));
    const ProximalSteps steps = outputMetric.empty()
                                    ? proximalSteps(std::move(ofInputs.matrix), inputs)
                                    : proximalSteps(std::move(ofInputs.matrix), inputs, std::move(ofOutputs.matrix), outputs);
    const auto inputScale = [&](std::size_t i) { return static_cast<float>(ofInputs.scales[i % ofInputs.scales.size()]); };
    const auto outputScale = [&](std::size_t i) {
        return outputMetric.empty() ? 1.0F : static_cast<float>(ofOutputs.scales[i / ofInputs.scales.size()]);
    };

    // Outputs × inputs, scaled.
    std::vector<float> target(optimum.size()), turned(optimum.size()), difference(optimum.size()), squares(optimum.size());
    transpose(optimum, inputs, target);
    each([&](std::size_t i) { target[i] = target[i] * inputScale(i) * outputScale(i); });
    std::vector<char> goes(first.begin(), first.end()), goesFirst(optimum.size(), 0);
    if (!goes.empty()) transpose(goes, inputs, goesFirst);

    SparseProjection projection(pattern, sparsity, inputs, outputs);
    std::span<const char> stays;
    const auto project = [&](const std::vector<float>& values) {
        each([&](std::size_t i) { squares[i] = goesFirst[i] != 0 ? 0.0F : values[i] * values[i]; });
        stays = projection(squares);
    };
    // D − U: where a weight stays U is 0, elsewhere D is.
    project(target);
    each([&](std::size_t i) { turned[i] = stays[i] != 0 ? target[i] : 0.0F; });
    const Schedule schedule = outputMetric.empty() ? kOfInputs : kOfBoth;
    double penalty = schedule.firstPenalty;
    for (int p = 0; p < schedule.penalties; ++p, penalty *= kGrowth) {
        const ProximalStep step = steps(penalty);
        for (int round = 0; round < kRoundsAPenalty; ++round) {
            each([&](std::size_t i) { difference[i] = turned[i] - target[i]; });
            std::vector<float>& x = squares;
            step(difference, target, x);
            each([&](std::size_t i) { difference[i] = x[i] - (stays[i] != 0 ? 0.0F : turned[i]); });
            project(difference);
            // U is the multiplier's part of ρ: it shrinks as ρ grows.
            const float kept = round + 1 == kRoundsAPenalty ? 1 / kGrowth : 1.0F;
            each([&](std::size_t i) { turned[i] = stays[i] != 0 ? difference[i] : -kept * difference[i]; });
        }
    }
    SparseWeights result{SparseMask(optimum.size()), std::vector<double>(optimum.size())};
    each([&](std::size_t i) { turned[i] = stays[i] != 0 ? turned[i] / inputScale(i) / outputScale(i) : 0.0F; });
    transpose(turned, outputs, result.weights);
    std::vector<char> mask(optimum.size());
    transpose(std::vector<char>(stays.begin(), stays.end()), outputs, mask);
    std::copy(mask.begin(), mask.end(), result.mask.begin());
    return result;
}

}  // namespace tcompress::passes
