#include "passes/quantize/hqq_solver.h"

#include <algorithm>
#include <cmath>

#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

/// β in steps of a group: errors below about a tenth of a step are split off at first.
constexpr double kFirstPenalty = 10;
constexpr double kPenaltyGrowth = 1.05;
constexpr std::int64_t kGroupsPerTask = 64;

struct GroupGrid {
    float scale = 1;
    int zero = 0;
};

class GroupSolver {
  public:
    GroupSolver(const QuantizationRule& rule, const HqqOptions& options)
        : rule_(rule), range_(codeRange(rule)), options_(options) {}

    /// The best grid for `w`, from the one given; codes as they are stored (before the cast to a byte).
    GroupGrid solve(const std::vector<float>& w, GroupGrid start, std::vector<int>& codes) {
        GroupGrid best = start, grid = start;
        double bestLoss = HUGE_VAL;
        double penalty = kFirstPenalty;
        for (std::int64_t i = 0; i <= options_.iterations; ++i) {
            encode(w, grid, tried_);
            const double loss = this->loss(w, grid, tried_);
            if (loss >= bestLoss) break;
            bestLoss = loss;
            best = grid;
            codes = tried_;
            grid = fitted(w, grid, penalty);
            penalty *= kPenaltyGrowth;
            if (!(std::fabs(grid.scale) > 0)) break;
        }
        return best;
    }

  private:
    void encode(const std::vector<float>& w, GroupGrid grid, std::vector<int>& codes) const {
        codes.resize(w.size());
        for (std::size_t i = 0; i < w.size(); ++i) {
            const float low = static_cast<float>(range_.low - grid.zero);
            const float high = static_cast<float>(range_.high - grid.zero);
            codes[i] = static_cast<int>(std::nearbyint(std::clamp(w[i] / grid.scale, low, high))) + grid.zero;
        }
    }

    /// Σ|w − s(q − z)|ᵖ in units of the first scale.
    double loss(const std::vector<float>& w, GroupGrid grid, const std::vector<int>& codes) const {
        double sum = 0;
        for (std::size_t i = 0; i < w.size(); ++i)
            sum += std::pow(std::fabs(w[i] - grid.scale * static_cast<float>(codes[i] - grid.zero)),
                            options_.norm);
        return sum;
    }

    /// Least squares of w − e on the codes; the zero point is rounded, then the scale is fitted to it.
    GroupGrid fitted(const std::vector<float>& w, GroupGrid grid, double penalty) {
        const double step = std::fabs(grid.scale);
        const auto n = static_cast<double>(w.size());
        double codeSum = 0, targetSum = 0, codeSquares = 0, products = 0;
        targets_.resize(w.size());
        for (std::size_t i = 0; i < w.size(); ++i) {
            const double x = w[i] - static_cast<double>(grid.scale) * (tried_[i] - grid.zero);
            const double relative = std::fabs(x) / step;
            const double kept =
                relative > 0 ? std::max(0.0, relative - std::pow(relative, options_.norm - 1) / penalty) : 0;
            targets_[i] = w[i] - std::copysign(kept * step, x);
            codeSum += tried_[i];
            targetSum += targets_[i];
            codeSquares += static_cast<double>(tried_[i]) * tried_[i];
            products += tried_[i] * targets_[i];
        }
        GroupGrid next = grid;
        if (rule_.symmetry == Symmetry::asymmetric) {
            const double variance = codeSquares - codeSum * codeSum / n;
            if (!(variance > 0)) return next;
            const double slope = (products - codeSum * targetSum / n) / variance;
            if (!(std::fabs(slope) > 0)) return next;
            const double zero = (codeSum - targetSum / slope) / n;
            next.zero =
                static_cast<int>(std::clamp(std::nearbyint(zero), double(range_.low), double(range_.high)));
        }
        const double squares = codeSquares - 2.0 * next.zero * codeSum + n * next.zero * next.zero;
        if (!(squares > 0)) return grid;
        next.scale =
            storedScale(static_cast<float>((products - next.zero * targetSum) / squares), rule_.scaleType);
        return next;
    }

    const QuantizationRule& rule_;
    CodeRange range_;
    const HqqOptions& options_;
    std::vector<int> tried_;
    std::vector<double> targets_;
};

}  // namespace

std::optional<QuantizedWeights> quantizeByHqq(std::span<const float> weights,
                                              const kernels::QuantizationLayout& layout,
                                              const QuantizationRule& rule, const HqqOptions& options) {
    auto result = quantizeWeights(weights, layout, rule);
    if (!result || rule.bits == 1) return result;  // two levels are the best there are already
    const std::int64_t blocks = layout.blocks();
    parallelRanges(
        static_cast<std::int64_t>(result->scales.size()), kGroupsPerTask,
        [&](std::int64_t begin, std::int64_t end) {
            GroupSolver solver(result->rule, options);
            std::vector<float> w;
            std::vector<int> codes;
            for (std::int64_t group = begin; group < end; ++group) {
                const std::int64_t inner = group % layout.inner;
                const std::int64_t block = group / layout.inner % blocks;
                const std::int64_t outer = group / layout.inner / blocks;
                const std::int64_t first = block * layout.block;
                const std::int64_t last = std::min(layout.axis, first + layout.block);
                const auto place = [&](std::int64_t i) {
                    return static_cast<std::size_t>((outer * layout.axis + i) * layout.inner + inner);
                };
                w.clear();
                for (std::int64_t i = first; i < last; ++i) w.push_back(weights[place(i)]);
                const auto index = static_cast<std::size_t>(group);
                GroupGrid grid{result->scales[index],
                               result->zeroPoints.empty() ? 0 : result->zeroPoints[index]};
                grid = solver.solve(w, grid, codes);
                result->scales[index] = grid.scale;
                if (!result->zeroPoints.empty())
                    result->zeroPoints[index] = static_cast<std::uint8_t>(grid.zero);
                for (std::int64_t i = first; i < last; ++i)
                    result->codes[place(i)] =
                        static_cast<std::uint8_t>(codes[static_cast<std::size_t>(i - first)]);
            }
        });
    measureRelativeError(*result, weights);
    return result;
}

}  // namespace tcompress::passes
