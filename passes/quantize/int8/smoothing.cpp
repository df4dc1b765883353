#include "passes/quantize/int8/smoothing.h"

#include <algorithm>
#include <cmath>

#include "lib/calibration/archive.h"
#include "lib/support/check.h"
#include "lib/support/error.h"
#include "passes/quantize/solver/output_error.h"

namespace tcompress::passes {
namespace {

/// A choice must be better by this much to be worth another operator on the activations.
constexpr double kWorthwhile = 0.97;
/// Channels that hardly move, and weights that are hardly there, count as this share of the largest.
constexpr double kSmallestShare = 1e-4;

struct ChannelRange {
    std::vector<float> low, high;
};

ChannelRange overAll(const BatchRanges& ranges) {
    ChannelRange all{ranges.low(0), ranges.high(0)};
    for (std::size_t batch = 1; batch < ranges.batches(); ++batch)
        for (std::size_t c = 0; c < all.low.size(); ++c) {
            all.low[c] = std::min(all.low[c], ranges.low(batch)[c]);
            all.high[c] = std::max(all.high[c], ranges.high(batch)[c]);
        }
    return all;
}

/// Largest |weight| of each input channel over all layers.
std::vector<double> largestWeights(std::span<const AwqLayer> layers) {
    std::vector<double> largest(static_cast<std::size_t>(layers.front().layout.axis), 0.0);
    for (const AwqLayer& layer : layers) {
        const std::vector<float> rows = byInputChannel(layer.weights, layer.layout);
        const std::size_t channels = rows.size() / largest.size();
        for (std::size_t i = 0; i < rows.size(); ++i)
            largest[i / channels] = std::max(largest[i / channels], std::fabs(static_cast<double>(rows[i])));
    }
    return largest;
}

std::vector<float> scalesFor(const std::vector<double>& activations, const std::vector<double>& weights,
                             double exponent) {
    const double largestActivation = *std::max_element(activations.begin(), activations.end());
    const double largestWeight = *std::max_element(weights.begin(), weights.end());
    std::vector<float> scales;
    for (std::size_t c = 0; c < activations.size(); ++c) {
        const double activation = std::max(activations[c], largestActivation * kSmallestShare);
        const double weight = std::max(weights[c], largestWeight * kSmallestShare);
        scales.push_back(static_cast<float>(std::pow(activation, exponent) / std::pow(weight, 1 - exponent)));
    }
    return scales;
}

class Search {
  public:
    Search(std::span<const AwqLayer> layers, const QuantizationRule& rule, const ActivationEvidence& fit,
           const ActivationEvidence& heldBack)
        : layers_(layers),
          rule_(rule),
          heldBack_(heldBack),
          range_(overAll(*fit.ranges)),
          weights_(largestWeights(layers)) {}

    std::optional<Smoothing> run(const SmoothingOptions& options) {
        Smoothing best;
        if (!judge(best)) return std::nullopt;
        best.plainError = best.error;
        const double plain = best.error;
        std::vector<std::vector<float>> shiftChoices{{}};
        if (options.shifting == Shifting::automatic) shiftChoices.push_back(middles());
        for (const std::vector<float>& shifts : shiftChoices) {
            const double before = best.error;
            const std::vector<double> reached = reach(shifts);
            // Of inputs that are the same on every row nothing is left to scale.
            if (*std::max_element(reached.begin(), reached.end()) == 0) continue;
            for (const double exponent : options.exponents) {
                Smoothing tried;
                tried.exponent = exponent;
                tried.shifts = shifts;
                tried.scales = scalesFor(reached, weights_, exponent);
                judge(tried);
                tried.plainError = plain;
                const bool operatorsMore =
                    (!options.folded.factors && best.scales.empty()) ||
                    (!options.folded.offsets && best.shifts.empty() != shifts.empty());
                const double limit = operatorsMore ? std::min(best.error, before * kWorthwhile) : best.error;
                if (tried.error < limit) best = std::move(tried);
            }
        }
        return best;
    }

  private:
    std::vector<float> middles() const {
        std::vector<float> result;
        for (std::size_t c = 0; c < range_.low.size(); ++c)
            result.push_back((range_.low[c] + range_.high[c]) / 2);
        return result;
    }

    /// max |x − z|.
    std::vector<double> reach(const std::vector<float>& shifts) const {
        std::vector<double> result;
        for (std::size_t c = 0; c < range_.low.size(); ++c) {
            const double shift = shifts.empty() ? 0.0 : shifts[c];
            result.push_back(std::max(range_.high[c] - shift, shift - range_.low[c]));
        }
        return result;
    }

    /// Mean square of the step that activations are rounded to.
    double squaredStep(const Smoothing& smoothing) const {
        double sum = 0;
        for (std::size_t batch = 0; batch < heldBack_.ranges->batches(); ++batch) {
            double low = 0, high = 0;
            for (std::size_t c = 0; c < range_.low.size(); ++c) {
                const double shift = smoothing.shifts.empty() ? 0.0 : smoothing.shifts[c];
                const double scale = smoothing.scales.empty() ? 1.0 : smoothing.scales[c];
                low = std::min(low, (heldBack_.ranges->low(batch)[c] - shift) / scale);
                high = std::max(high, (heldBack_.ranges->high(batch)[c] - shift) / scale);
            }
            sum += std::pow((high - low) / 255, 2);
        }
        return sum / static_cast<double>(heldBack_.ranges->batches());
    }

    /// Sets the error; false when a weight is not finite.
    bool judge(Smoothing& smoothing) const {
        const OutputMetric metric(shiftedMoment(heldBack_, smoothing.shifts), layers_.front().layout.axis);
        const double step = squaredStep(smoothing);
        std::vector<float> inverse;
        for (const float scale : smoothing.scales) inverse.push_back(1.0F / scale);
        smoothing.error = 0;
        for (const AwqLayer& layer : layers_) {
            const std::vector<float> scaled =
                scaledByInputChannel(layer.weights, layer.layout, smoothing.scales);
            const auto quantized = quantizeWeights(scaled, layer.layout, rule_);
            if (!quantized) return false;
            double energy = 0;
            for (const float value : scaled) energy += static_cast<double>(value) * value;
            std::vector<float> error =
                scaledByInputChannel(dequantizeWeights(*quantized), layer.layout, inverse);
            for (std::size_t i = 0; i < error.size(); ++i) error[i] -= layer.weights[i];
            smoothing.error += step / 12 * energy + metric.energy(byInputChannel(error, layer.layout)) /
                                                        static_cast<double>(heldBack_.rows);
        }
        return true;
    }

    std::span<const AwqLayer> layers_;
    const QuantizationRule& rule_;
    const ActivationEvidence& heldBack_;
    ChannelRange range_;
    std::vector<double> weights_;
};

}  // namespace

ChannelMap Smoothing::map() const {
    ChannelMap result;
    for (const float scale : scales) result.factors.push_back(1.0F / scale);
    for (std::size_t c = 0; c < shifts.size(); ++c)
        result.offsets.push_back(scales.empty() ? -shifts[c] : -shifts[c] * result.factors[c]);
    return result;
}

void BatchRanges::add(std::span<const calibration::Rows> sources) {
    const calibration::Rows& x = sources.front();
    if (x.rows == 0) return;
    std::vector<float> low(x.row(0).begin(), x.row(0).end()), high = low;
    for (std::int64_t row = 1; row < x.rows; ++row) {
        const auto values = x.row(row);
        for (std::size_t c = 0; c < values.size(); ++c) {
            low[c] = std::min(low[c], values[c]);
            high[c] = std::max(high[c], values[c]);
        }
    }
    low_.push_back(std::move(low));
    high_.push_back(std::move(high));
}

std::string BatchRanges::kind() const {
    return seen_ == calibration::RowsSeen::tokens ? "channel ranges of batches"
                                                  : "channel ranges of batches with padding";
}

void BatchRanges::transfer(calibration::Archive& archive) {
    for (auto* ranges : {&low_, &high_}) {
        auto count = static_cast<std::uint64_t>(ranges->size());
        std::vector<float> all;
        for (const std::vector<float>& range : *ranges) all.insert(all.end(), range.begin(), range.end());
        archive(count), archive(all);
        if (count > all.size()) throw Error("a statistic is damaged");
        const std::size_t width = count == 0 ? 0 : all.size() / count;
        ranges->clear();
        for (auto at = all.begin(); ranges->size() < count; at += static_cast<std::ptrdiff_t>(width))
            ranges->emplace_back(at, at + static_cast<std::ptrdiff_t>(width));
    }
}

std::vector<double> shiftedMoment(const ActivationEvidence& evidence, const std::vector<float>& shifts) {
    std::vector<double> moment = evidence.secondMoment;
    const std::size_t n = shifts.size();
    const auto rows = static_cast<double>(evidence.rows);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
            moment[i * n + j] +=
                rows * shifts[i] * shifts[j] - shifts[i] * evidence.sum[j] - shifts[j] * evidence.sum[i];
    return moment;
}

std::optional<Smoothing> findSmoothing(std::span<const AwqLayer> layers, const QuantizationRule& rule,
                                       const ActivationEvidence& fit, const ActivationEvidence& heldBack,
                                       const SmoothingOptions& options) {
    TCOMPRESS_CHECK(!layers.empty(), "smoothing without a layer");
    if (fit.rows == 0 || heldBack.rows == 0) return std::nullopt;
    return Search(layers, rule, fit, heldBack).run(options);
}

}  // namespace tcompress::passes
