#include "passes/quantize/int8/calibrated_int8.h"

#include <algorithm>
#include <cmath>

#include "lib/calibration/collector.h"
#include "lib/calibration/moments.h"
#include "lib/data/split.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "passes/support/centred.h"

namespace tcompress::passes {
namespace {

constexpr double kHeldBack = 0.2;
/// 8-bit codes have little to repay, and the data are to be trusted little.
constexpr double kDamp = 0.1;

/// The statistics of each stage's input over one part of the samples.
struct PartEvidence {
    std::unique_ptr<calibration::Collector> collector;
    std::vector<const BatchRanges*> ranges;
    std::vector<calibration::MomentSums*> moments;

    ActivationEvidence of(std::size_t stage) const {
        const calibration::Moments& sums = moments[stage]->result();
        return {ranges[stage], sums.rows, sums.sum, sums.gram};
    }
};

PartEvidence gather(const ir::Model& model, const std::vector<LayerStage>& stages,
                    const data::Dataset& samples, calibration::RowsSeen ranges,
                    const pipeline::PassContext& context) {
    PartEvidence part;
    part.collector = std::make_unique<calibration::Collector>(model);
    for (const LayerStage& stage : stages) {
        part.ranges.push_back(
            &part.collector->add<BatchRanges>(calibration::Source(stage.inputs.front()), ranges));
        part.moments.push_back(
            &part.collector->add<calibration::MomentSums>(calibration::MomentsRequest{stage.inputs.front()}));
    }
    context.collect(*part.collector, samples);
    return part;
}

class Preparation {
  public:
    Preparation(const QuantizationRule& rule, const CalibratedInt8Options& options,
                std::map<const TargetWeight*, PreparedWeight>& result)
        : rule_(rule), options_(options), result_(result) {}

    void prepare(const LayerStage& stage, const ActivationEvidence& fit, const ActivationEvidence& heldBack) {
        std::vector<AwqLayer> layers;
        for (const TargetWeight* weight : stage.weights) {
            const Tensor& constant = *weight->constant->constant();
            layers.push_back({constant.data<float>(), groupedLayout(constant.shape(), weight->inAxis,
                                                                    constant.shape()[weight->inAxis])});
            if (fit.rows > 0 && static_cast<std::int64_t>(fit.sum.size()) != layers.back().layout.axis)
                return;
        }
        const ActivationEvidence& judge = heldBack.rows > 0 ? heldBack : fit;
        const auto found = findSmoothing(layers, rule_, fit, judge, smoothingOptions(stage));
        if (!found) return;
        const auto smoothing = std::make_shared<const Smoothing>(*found);
        ActivationEvidence all = fit;
        if (heldBack.rows > 0) {
            all.rows += heldBack.rows;
            for (std::size_t i = 0; i < all.sum.size(); ++i) all.sum[i] += heldBack.sum[i];
            for (std::size_t i = 0; i < all.secondMoment.size(); ++i)
                all.secondMoment[i] += heldBack.secondMoment[i];
        }
        double energy = 0;
        const OutputMetric metric(judge.secondMoment, layers.front().layout.axis);
        for (const AwqLayer& layer : layers) energy += metric.energy(byInputChannel(layer.weights, layer.layout));
        const double error =
            energy > 0 ? std::sqrt(found->error * static_cast<double>(judge.rows) / energy) : 0;
        std::optional<FeedbackFactor> factor;
        if (options_.rounding == Rounding8::gptq)
            factor = feedbackFactor(smoothedCovariance(all, *smoothing), layers.front().layout.axis, kDamp,
                                    ColumnOrder::activation);
        for (std::size_t i = 0; i < layers.size(); ++i)
            if (auto prepared = round(layers[i], all, smoothing, factor)) {
                prepared->error = error;
                result_.emplace(stage.weights[i], std::move(*prepared));
            }
    }

  private:
    SmoothingOptions smoothingOptions(const LayerStage& stage) const {
        std::vector<const ir::Node*> readers;
        for (const TargetWeight* weight : stage.weights) readers.push_back(weight->sites.front()->node);
        const ir::Value& input = *stage.inputs.front();
        SmoothingOptions options = options_.smoothing;
        options.folded =
            placesForMap(input, readers, static_cast<std::size_t>(stage.weights.front()->sites.front()->inFeatures));
        if (options_.scaledBefore.contains(stage.weights.front()->sites.front())) options.folded.factors = true;
        return options;
    }

    /// By GPTQ with a factor, else to nearest.
    std::optional<PreparedWeight> round(const AwqLayer& layer, const ActivationEvidence& x,
                                        const std::shared_ptr<const Smoothing>& smoothing,
                                        const std::optional<FeedbackFactor>& factor) const {
        const std::vector<float> scaled =
            scaledByInputChannel(layer.weights, layer.layout, smoothing->scales);
        std::optional<QuantizedWeights> codes = factor ? quantizeByGptq(scaled, layer.layout, rule_, *factor)
                                                       : quantizeWeights(scaled, layer.layout, rule_);
        if (!codes) return std::nullopt;
        PreparedWeight prepared;
        prepared.smoothing = smoothing;
        prepared.codes = std::move(*codes);
        prepared.constant = constantFor(layer, scaled, x, *smoothing, prepared.codes);
        return prepared;
    }

    /// Of (x − z) / s about its mean, which the constant takes up.
    static std::vector<double> smoothedCovariance(const ActivationEvidence& x, const Smoothing& smoothing) {
        std::vector<float> mean;
        for (const double sum : x.sum) mean.push_back(static_cast<float>(sum / static_cast<double>(x.rows)));
        std::vector<double> moment = shiftedMoment(x, mean);
        const std::size_t n = mean.size();
        clearRounding(moment, x.secondMoment, n);
        if (!smoothing.scales.empty())
            for (std::size_t i = 0; i < n; ++i)
                for (std::size_t j = 0; j < n; ++j)
                    moment[i * n + j] /= static_cast<double>(smoothing.scales[i]) * smoothing.scales[j];
        return moment;
    }

    /// z · W, and the mean of what rounding the weights loses.
    static std::vector<float> constantFor(const AwqLayer& layer, std::span<const float> scaled,
                                          const ActivationEvidence& x, const Smoothing& smoothing,
                                          const QuantizedWeights& codes) {
        const std::vector<float> rows = byInputChannel(layer.weights, layer.layout);
        const std::vector<float> scaledRows = byInputChannel(scaled, layer.layout);
        const std::vector<float> rounded = byInputChannel(dequantizeWeights(codes), layer.layout);
        const std::size_t channels = rows.size() / x.sum.size();
        std::vector<double> constant(channels, 0.0);
        for (std::size_t i = 0; i < x.sum.size(); ++i) {
            const double shift = smoothing.shifts.empty() ? 0.0 : smoothing.shifts[i];
            const double scale = smoothing.scales.empty() ? 1.0 : smoothing.scales[i];
            const double mean = (x.sum[i] / static_cast<double>(x.rows) - shift) / scale;
            for (std::size_t c = 0; c < channels; ++c)
                constant[c] +=
                    shift * rows[i * channels + c] +
                    mean * (static_cast<double>(scaledRows[i * channels + c]) - rounded[i * channels + c]);
        }
        return {constant.begin(), constant.end()};
    }

    const QuantizationRule& rule_;
    const CalibratedInt8Options& options_;
    std::map<const TargetWeight*, PreparedWeight>& result_;
};

}  // namespace

std::map<const TargetWeight*, PreparedWeight> prepareInt8(const std::vector<const TargetWeight*>& weights,
                                                          const ir::Model& model,
                                                          const pipeline::PassContext& context,
                                                          const QuantizationRule& rule,
                                                          const CalibratedInt8Options& options,
                                                          std::string_view pass) {
    std::vector<const TargetWeight*> single;
    for (const TargetWeight* weight : weights)
        if (weight->sites.size() == 1 && multipliesRows(*weight)) single.push_back(weight);
    const std::vector<LayerStage> stages = stagesOf(single);
    const data::Split split = context.calibrationSplit(pass, "ranges are those of activations", kHeldBack);
    // A range that is measured on each run is that of padding too.
    const auto seen = options.activations ? calibration::RowsSeen::tokens : calibration::RowsSeen::all;
    const PartEvidence fit = gather(model, stages, split.fit, seen, context);
    const PartEvidence heldBack = gather(model, stages, split.heldBack, seen, context);
    std::map<const TargetWeight*, PreparedWeight> result;
    Preparation preparation(rule, options, result);
    for (std::size_t i = 0; i < stages.size(); ++i) preparation.prepare(stages[i], fit.of(i), heldBack.of(i));
    if (!options.activations) return result;

    // The distribution of what is rounded is known only once the smoothing is.
    calibration::Collector collector(model);
    std::vector<const SmoothedHistogram*> histograms;
    for (std::size_t i = 0; i < stages.size(); ++i) {
        const auto found = result.find(stages[i].weights.front());
        if (found == result.end()) {
            histograms.push_back(nullptr);
            continue;
        }
        const Smoothing& smoothing = *found->second.smoothing;
        std::vector<float> factors;
        for (const float scale : smoothing.scales) factors.push_back(1.0F / scale);
        histograms.push_back(&collector.add<SmoothedHistogram>(calibration::Source(stages[i].inputs.front()),
                                                               smoothing.shifts, std::move(factors)));
    }
    context.collect(collector, split.fit);
    context.collect(collector, split.heldBack);
    for (std::size_t i = 0; i < stages.size(); ++i) {
        if (histograms[i] == nullptr) continue;
        const auto parameters = chooseParameters(histograms[i]->result(), *options.activations);
        for (const TargetWeight* weight : stages[i].weights)
            if (const auto found = result.find(weight); found != result.end())
                found->second.activation = parameters;
    }
    return result;
}

}  // namespace tcompress::passes
