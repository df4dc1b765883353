#include "passes/quantize/solver/hqq_solver.h"

#include <algorithm>
#include <cmath>

#include "kernels/multiversion.h"
#include "lib/support/parallel.h"
#include "passes/quantize/grid/group_grid.h"
#include "passes/quantize/grid/scale_codes.h"

namespace tcompress::passes {
namespace {

/// β in steps of a group: errors below about a tenth of a step are split off at first.
constexpr float kFirstPenalty = 10;
constexpr float kPenaltyGrowth = 1.05F;
constexpr std::int64_t kGroupsPerTask = 64;

/// Values stand for scale · q with q = code − zero.
struct GroupGrid {
    float scale = 1;
    int zero = 0;
};

struct QuotientRange {
    float low = 0, high = 0;
};

/// Sums over a group for target t and importance h; lanes are added in one order on every processor.
struct Sums {
    double h = 0, q = 0, qq = 0, t = 0, qt = 0, error = 0;
};

/// q of each weight, and Σ h·(w − s·q)².
TCOMPRESS_MULTIVERSION double encode(const float* w, const float* h, std::int64_t n, float scale,
                                     QuotientRange range, float* q) {
    float errors[kLanes] = {};
    for (std::int64_t begin = 0; begin < n; begin += kLanes) {
        const std::int64_t count = std::min(kLanes, n - begin);
        for (std::int64_t lane = 0; lane < count; ++lane) {
            const float value = w[begin + lane];
            const float x = roundHalfEven(clamped(value / scale, range.low, range.high));
            q[begin + lane] = x;
            const float error = value - x * scale;
            errors[lane] += h[begin + lane] * error * error;
        }
    }
    double sum = 0;
    for (const float error : errors) sum += error;
    return sum;
}

TCOMPRESS_MULTIVERSION Sums sumsOf(const float* q, const float* t, const float* h, std::int64_t n) {
    float sums[5][kLanes] = {};
    for (std::int64_t begin = 0; begin < n; begin += kLanes) {
        const std::int64_t count = std::min(kLanes, n - begin);
        for (std::int64_t lane = 0; lane < count; ++lane) {
            const float code = q[begin + lane], target = t[begin + lane], weight = h[begin + lane];
            sums[0][lane] += weight;
            sums[1][lane] += weight * code;
            sums[2][lane] += weight * code * code;
            sums[3][lane] += weight * target;
            sums[4][lane] += weight * code * target;
        }
    }
    double totals[5] = {};
    for (int k = 0; k < 5; ++k)
        for (const float sum : sums[k]) totals[k] += sum;
    return {totals[0], totals[1], totals[2], totals[3], totals[4]};
}

class GroupSolver {
  public:
    GroupSolver(const QuantizationRule& rule, const HqqOptions& options)
        : rule_(rule), codes_(codeRange(rule)), options_(options) {}

    /// The best grid for `w` (weighed by `h`), from the one given.
    GroupGrid solve(std::span<const float> w, std::span<const float> h, GroupGrid start) {
        w_ = w;
        h_ = h;
        quotients_.resize(w.size());
        targets_.resize(w.size());
        best_ = start;
        bestError_ = HUGE_VAL;
        split(start);
        fitNearest();
        return best_;
    }

    /// What the weights are stored as.
    void encodeInto(std::span<const float> w, std::span<const float> h, GroupGrid grid,
                    std::vector<std::uint8_t>& codes) {
        codes.resize(w.size());
        quotients_.resize(w.size());
        encode(w.data(), h.data(), size(w), grid.scale, rangeOf(grid), quotients_.data());
        for (std::size_t i = 0; i < w.size(); ++i)
            codes[i] = static_cast<std::uint8_t>(static_cast<int>(quotients_[i]) + grid.zero);
    }

  private:
    static std::int64_t size(std::span<const float> w) { return static_cast<std::int64_t>(w.size()); }

    QuotientRange rangeOf(GroupGrid grid) const {
        return {static_cast<float>(codes_.low - grid.zero), static_cast<float>(codes_.high - grid.zero)};
    }

    /// Chooses the nearest codes; keeps the grid when its error is the least so far.
    bool look(GroupGrid grid) {
        const double error =
            encode(w_.data(), h_.data(), size(w_), grid.scale, rangeOf(grid), quotients_.data());
        if (!(error < bestError_)) return false;
        bestError_ = error;
        best_ = grid;
        return true;
    }

    /// The half-quadratic turns, while the p-norm falls.
    void split(GroupGrid grid) {
        double bestLoss = HUGE_VAL;
        float penalty = kFirstPenalty;
        for (std::int64_t i = 0; i <= options_.iterations; ++i) {
            look(grid);
            const double loss = shrink(grid, penalty);
            if (loss >= bestLoss) return;
            bestLoss = loss;
            grid = fitted(grid, targets_);
            penalty *= kPenaltyGrowth;
        }
    }

    /// Nearest codes and least squares in turns, from the best grid on, while the error falls.
    void fitNearest() {
        look(best_);
        for (std::int64_t i = 0; i < options_.iterations; ++i)
            if (!look(fitted(best_, w_))) return;
    }

    /// targets ← w − e; returns Σ|w − s·q|ᵖ.
    double shrink(GroupGrid grid, float penalty) {
        const float step = std::fabs(grid.scale), power = static_cast<float>(options_.norm);
        double loss = 0;
        for (std::size_t i = 0; i < w_.size(); ++i) {
            const float x = (w_[i] - grid.scale * quotients_[i]) / step, size = std::fabs(x);
            float kept = 0;
            if (size > 0) {
                const float slope = std::pow(size, power - 1);
                kept = std::max(0.0F, size - slope / penalty);
                loss += slope * size;
            }
            targets_[i] = w_[i] - std::copysign(kept * step, x);
        }
        return loss * std::pow(step, options_.norm);
    }

    /// Least squares of the targets on the quotients, with the zero point rounded and the scale fitted to it.
    GroupGrid fitted(GroupGrid grid, std::span<const float> targets) const {
        const Sums s = sumsOf(quotients_.data(), targets.data(), h_.data(), size(w_));
        GroupGrid next = grid;
        double shift = 0;  // the value is scale · (q + shift)
        if (rule_.symmetry == Symmetry::asymmetric) {
            const double variance = s.qq * s.h - s.q * s.q;
            const double slope = variance > 0 ? (s.qt * s.h - s.q * s.t) / variance : 0;
            if (!(std::fabs(slope) > 0)) return grid;
            const double wanted = grid.zero - std::nearbyint((s.t / slope - s.q) / s.h);
            next.zero = static_cast<int>(std::clamp(wanted, double(codes_.low), double(codes_.high)));
            shift = grid.zero - next.zero;
        }
        const double squares = s.qq + 2 * shift * s.q + shift * shift * s.h;
        if (!(squares > 0)) return grid;
        const float scale =
            storedScale(static_cast<float>((s.qt + shift * s.t) / squares), rule_.scaleType);
        if (!(std::fabs(scale) > 0)) return grid;
        next.scale = scale;
        return next;
    }

    const QuantizationRule& rule_;
    CodeRange codes_;
    const HqqOptions& options_;
    std::span<const float> w_, h_;
    GroupGrid best_;
    double bestError_ = 0;
    std::vector<float> quotients_, targets_;
};

}  // namespace

std::optional<QuantizedWeights> quantizeByHqq(std::span<const float> weights,
                                              const kernels::QuantizationLayout& layout,
                                              const QuantizationRule& rule, const HqqOptions& options,
                                              std::span<const float> importance) {
    auto result = quantizeWeights(weights, layout, rule, importance);
    if (!result || rule.bits == 1) return result;  // two levels are the best there are already
    std::vector<float> alike;
    if (importance.empty()) {
        alike.assign(static_cast<std::size_t>(layout.axis), 1.0F);
        importance = alike;
    }
    const std::int64_t blocks = layout.blocks();
    parallelRanges(
        static_cast<std::int64_t>(result->scales.size()), kGroupsPerTask,
        [&](std::int64_t begin, std::int64_t end) {
            GroupSolver solver(result->rule, options);
            std::vector<float> w;
            std::vector<std::uint8_t> codes;
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
                const auto h = importance.subspan(static_cast<std::size_t>(first), w.size());
                grid = solver.solve(w, h, grid);
                solver.encodeInto(w, h, grid, codes);
                result->scales[index] = grid.scale;
                if (!result->zeroPoints.empty())
                    result->zeroPoints[index] = static_cast<std::uint8_t>(grid.zero);
                for (std::int64_t i = first; i < last; ++i)
                    result->codes[place(i)] = codes[static_cast<std::size_t>(i - first)];
            }
        });
    measureRelativeError(*result, weights);
    if (rule.scaleType == DType::uint8) encodeScales(*result, weights);
    return result;
}

}  // namespace tcompress::passes
