#include "passes/quantize/solver/awq_solver.h"

#include <algorithm>
#include <cmath>

#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/solver/output_error.h"

namespace tcompress::passes {
namespace {

/// Channels that hardly ever move get the scale of one that does this much.
constexpr double kSmallestActivation = 1e-4;
constexpr std::int64_t kValuesOfATask = 65536;

std::vector<float> scalesFor(std::span<const double> meanAbsolute, double exponent) {
    std::vector<float> scales(meanAbsolute.size(), 1.0F);
    if (exponent == 0) return scales;
    const double largest = *std::max_element(meanAbsolute.begin(), meanAbsolute.end());
    double low = HUGE_VAL, high = 0;
    std::vector<double> raw;
    for (const double mean : meanAbsolute) {
        raw.push_back(std::pow(std::max(mean, largest * kSmallestActivation), exponent));
        low = std::min(low, raw.back());
        high = std::max(high, raw.back());
    }
    const double norm = std::sqrt(low * high);
    for (std::size_t i = 0; i < raw.size(); ++i) scales[i] = static_cast<float>(raw[i] / norm);
    return scales;
}

}  // namespace

std::optional<AwqSolution> quantizeByAwq(std::span<const AwqLayer> layers, const QuantizationRule& rule,
                                         std::span<const double> secondMoment,
                                         std::span<const double> meanAbsolute, std::int64_t steps) {
    TCOMPRESS_CHECK(!layers.empty() && !meanAbsolute.empty(), "AWQ without a layer");
    const auto n = static_cast<std::int64_t>(meanAbsolute.size());
    const double largest = *std::max_element(meanAbsolute.begin(), meanAbsolute.end());
    if (!(largest > 0)) steps = 0;
    const OutputMetric metric(secondMoment, n);
    std::optional<AwqSolution> best;
    // The first is plain rounding; then come ranges weighed by the activations.
    for (std::int64_t step = -1; step <= steps; ++step) {
        AwqSolution tried;
        tried.exponent = step <= 0 ? 0 : static_cast<double>(step) / static_cast<double>(steps);
        tried.scales = scalesFor(meanAbsolute, tried.exponent);
        std::vector<float> inverse, importance;
        for (std::int64_t i = 0; i < n; ++i) {
            const float factor = 1.0F / tried.scales[static_cast<std::size_t>(i)];
            inverse.push_back(factor);
            importance.push_back(static_cast<float>(secondMoment[static_cast<std::size_t>(i * n + i)]) *
                                 factor * factor);
        }
        for (const AwqLayer& layer : layers) {
            TCOMPRESS_CHECK(layer.layout.axis == n, "AWQ layers that read different inputs");
            auto quantized =
                quantizeWeights(scaledByInputChannel(layer.weights, layer.layout, tried.scales), layer.layout,
                                rule, step < 0 ? std::vector<float>{} : importance);
            if (!quantized) return std::nullopt;
            std::vector<float> error =
                scaledByInputChannel(dequantizeWeights(*quantized), layer.layout, inverse);
            parallelRanges(std::ssize(error), kValuesOfATask, [&](std::int64_t begin, std::int64_t end) {
                for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
                    error[i] = layer.weights[i] - error[i];
            });
            tried.error += metric.energy(byInputChannel(error, layer.layout));
            tried.weights.push_back(std::move(*quantized));
        }
        if (!best || tried.error < best->error) best = std::move(tried);
    }
    return best;
}

}  // namespace tcompress::passes
