// The threshold of least Kullback-Leibler divergence. Within a run of cells Q has one value, so Σ P log Q
// over the run is that value's logarithm times a difference of running sums: a candidate costs one step for
// each level instead of one for each cell.

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/calibration/clip_range.h"
#include "lib/support/check.h"

namespace tcompress::calibration {

namespace {

/// Running sums over the cells in front of cell i.
struct RunningSums {
    explicit RunningSums(const std::vector<std::uint64_t>& counts)
        : mass(counts.size() + 1), filled(counts.size() + 1), entropy(counts.size() + 1) {
        for (std::size_t i = 0; i < counts.size(); ++i) {
            const auto count = static_cast<double>(counts[i]);
            mass[i + 1] = mass[i] + count;
            filled[i + 1] = filled[i] + (count > 0 ? 1.0 : 0.0);
            entropy[i + 1] = entropy[i] + (count > 0 ? count * std::log(count) : 0.0);
        }
    }
    std::vector<double> mass, filled, entropy;
};

/// Σ P log(P / Q) for the first `cells` cells, from counts that are not normalized: with P = p / total and Q
/// = q / inside, total · divergence = Σ p log p − Σ p log q − total · log(total / inside).
double divergence(const std::vector<std::uint64_t>& counts, const RunningSums& sums, std::size_t cells,
                  std::size_t levels) {
    const double total = sums.mass.back(), inside = sums.mass[cells];
    const auto last = static_cast<double>(counts[cells - 1]);
    const double beyond = total - inside;
    // The last cell of Q is empty, and P has there what lies beyond.
    if (last == 0 && beyond > 0) return std::numeric_limits<double>::infinity();
    double result = sums.entropy[cells];
    if (last > 0) result += (last + beyond) * std::log(last + beyond) - last * std::log(last);
    for (std::size_t level = 0; level < levels; ++level) {
        const std::size_t begin = level * cells / levels, end = (level + 1) * cells / levels;
        const double mass = sums.mass[end] - sums.mass[begin];
        if (mass == 0) continue;
        const double q = mass / (sums.filled[end] - sums.filled[begin]);
        result -= (mass + (end == cells ? beyond : 0)) * std::log(q);
    }
    return (result - total * std::log(total / inside)) / total;
}

}  // namespace

ClipRange entropyRange(const Histogram& histogram, RangeKind kind, std::int64_t levels) {
    TCOMPRESS_CHECK(levels >= 1, "quantization has levels");
    const ClipRange full = fullRange(histogram, RangeKind::symmetric);
    double width = 0;
    const std::vector<std::uint64_t> counts = histogram.absoluteCounts(width);
    const RunningSums sums(counts);
    double threshold = full.high, least = std::numeric_limits<double>::infinity();
    for (auto cells = static_cast<std::size_t>(levels); cells <= counts.size(); ++cells) {
        if (sums.mass[cells] == 0) continue;
        const double found = divergence(counts, sums, cells, static_cast<std::size_t>(levels));
        if (found >= least) continue;
        least = found;
        threshold = std::min((static_cast<double>(cells) + 0.5) * width, full.high);
    }
    const bool oneSided = kind == RangeKind::asymmetric && histogram.minimum() >= 0;
    return {oneSided ? 0.0 : -threshold, threshold};
}

}  // namespace tcompress::calibration
