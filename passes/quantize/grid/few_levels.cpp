#include "passes/quantize/grid/few_levels.h"

#include <algorithm>
#include <cmath>

namespace tcompress::passes {
namespace {

/// b − a as a share of |a| at least, so that the zero point fits float16.
constexpr double kSmallestStep = 1.0 / 1024;

}  // namespace

Energy encodeBinary(const float* x, std::int64_t n, const BinaryGrid& grid, std::uint8_t* codes) {
    const float low = (0.0F - grid.zero) * grid.scale, high = (1.0F - grid.zero) * grid.scale;
    Energy energy;
    for (std::int64_t i = 0; i < n; ++i) {
        const bool isHigh = std::fabs(x[i] - high) < std::fabs(x[i] - low);
        const double error = static_cast<double>(isHigh ? high : low) - x[i];
        codes[i] = isHigh ? 1 : 0;
        energy.error += error * error;
        energy.weight += static_cast<double>(x[i]) * x[i];
    }
    return energy;
}

float FewLevels::binaryMagnitude(std::span<const float> weights, std::span<const float> importance) {
    double sum = 0, weight = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        sum += static_cast<double>(importance[i]) * std::fabs(weights[i]);
        weight += importance[i];
    }
    return weight > 0 ? static_cast<float>(sum / weight) : 0;
}

BinaryGrid FewLevels::binaryLevels(std::span<const float> weights, std::span<const float> importance) {
    sorted_.clear();
    double all = 0, allWeight = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        sorted_.push_back({weights[i], importance[i]});
        all += static_cast<double>(importance[i]) * weights[i];
        allWeight += importance[i];
    }
    std::stable_sort(sorted_.begin(), sorted_.end(),
                     [](const Weighted& a, const Weighted& b) { return a.value < b.value; });
    // The squared error is Σhw² − (Σ_low hw)² / Σ_low h − (Σ_high hw)² / Σ_high h.
    double low = allWeight > 0 ? all / allWeight : 0, high = low;
    double best = -1, sum = 0, weight = 0;
    for (std::size_t i = 0; i + 1 < sorted_.size(); ++i) {
        sum += static_cast<double>(sorted_[i].importance) * sorted_[i].value;
        weight += sorted_[i].importance;
        const double rest = allWeight - weight;
        if (!(weight > 0) || !(rest > 0)) continue;
        const double gain = sum * sum / weight + (all - sum) * (all - sum) / rest;
        if (gain <= best) continue;
        best = gain;
        low = sum / weight;
        high = (all - sum) / rest;
    }
    const double step = std::max(high - low, kSmallestStep * std::fabs(low));
    if (!(step > 0)) return {1, 0};
    return {static_cast<float>(step), static_cast<float>(-low / step)};
}

float FewLevels::ternaryMagnitude(std::span<const float> weights, std::span<const float> importance) {
    sorted_.clear();
    for (std::size_t i = 0; i < weights.size(); ++i)
        sorted_.push_back({std::fabs(weights[i]), importance[i]});
    std::stable_sort(sorted_.begin(), sorted_.end(),
                     [](const Weighted& a, const Weighted& b) { return a.value > b.value; });
    double best = 0, magnitude = 0, sum = 0, weight = 0;
    for (const Weighted& next : sorted_) {
        sum += static_cast<double>(next.importance) * next.value;
        weight += next.importance;
        if (!(weight > 0) || sum * sum / weight <= best) continue;
        best = sum * sum / weight;
        magnitude = sum / weight;
    }
    return static_cast<float>(magnitude);
}

}  // namespace tcompress::passes
