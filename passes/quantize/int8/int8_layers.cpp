#include "passes/quantize/int8/int8_layers.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <set>

#include "lib/ir/edit.h"
#include "lib/support/mapped_file.h"
#include "passes/quantize/int8/equalization.h"
#include "passes/quantize/int8/int8_form.h"
#include "passes/quantize/int8/qdq_groups.h"
#include "passes/support/raised_opset.h"
#include "passes/support/scaling_paths.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

/// What α is searched among.
const std::vector<double> kExponents{0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};

/// Largest |code| for which two products with uint8 activations fit int16: 2 · 255 · 64 < 2¹⁵.
constexpr std::int32_t kReducedLimit = 64;

/// A layer whose input has no range that could be a constant.
void skipUnobserved(const TargetWeight& weight, PassReport& report) {
    const std::string own = int8Refusal(*weight.sites.front(), *weight.constant->constant());
    skip(report, weight,
         !own.empty() ? own
         : weight.sites.size() > 1
             ? std::string("its weight is used at several places, whose inputs have different ranges")
             : std::string(
                   "its input or its weight is not finite, or was never computed on the calibration data"));
}

void noteSmoothing(const std::map<const TargetWeight*, PreparedWeight>& prepared, PassReport& report) {
    std::size_t scaled = 0, shifted = 0;
    for (const auto& [weight, item] : prepared) {
        scaled += item.smoothing->scales.empty() ? 0 : 1;
        shifted += item.smoothing->shifts.empty() ? 0 : 1;
    }
    report.notes.push_back(
        fmt::format("{} of {} weights are behind a smoothed input, {} of them behind a shifted one", scaled,
                    prepared.size(), shifted));
}

/// Lets layers take the factors of the layers behind them.
void takeFactors(const std::vector<ScalingPath>& paths, std::map<const TargetWeight*, PreparedWeight>& prepared) {
    std::map<const Site*, PreparedWeight*> of;
    for (auto& [weight, item] : prepared) of.emplace(weight->sites.front(), &item);
    for (const ScalingPath& path : paths) {
        const auto producer = of.find(path.producer), consumer = of.find(path.consumer);
        if (producer == of.end() || consumer == of.end() || !path.isOneToOne()) continue;
        const std::vector<float>& scales = consumer->second->smoothing->scales;
        if (scales.empty()) continue;
        std::vector<float> factors(static_cast<std::size_t>(path.producer->outFeatures), 1.0F);
        for (std::size_t i = 0; i < scales.size(); ++i)
            factors[static_cast<std::size_t>(path.channels[i])] = 1.0F / scales[i];
        producer->second->outputFactors = std::move(factors);
        consumer->second->factorsTaken = true;
    }
}

std::map<const TargetWeight*, PreparedWeight> prepare(const std::vector<TargetWeight>& weights,
                                                      const ir::Model& model, const PassContext& context,
                                                      const QuantizationRule& rule,
                                                      const Int8Options& options, const char* pass,
                                                      const std::optional<ActivationRange>& activations,
                                                      const std::vector<ScalingPath>& paths, PassReport& report) {
    const bool smooths = options.smooth == Smooth::automatic;
    if (options.maxError) context.calibration(pass, "max_error is measured on samples");
    if (!activations && (!context.hasCalibration() || (!smooths && options.rounding == Rounding8::nearest)))
        return {};
    std::vector<const TargetWeight*> linear;
    for (const TargetWeight& weight : weights)
        if (!weight.hasEmbedding() && int8Refusal(*weight.sites.front(), *weight.constant->constant()).empty())
            linear.push_back(&weight);
    CalibratedInt8Options calibrated;
    if (smooths && options.alpha)
        calibrated.smoothing.exponents = {*options.alpha};
    else if (smooths)
        calibrated.smoothing.exponents = kExponents;
    calibrated.smoothing.shifting = smooths && options.shift ? Shifting::automatic : Shifting::never;
    calibrated.rounding = options.rounding;
    calibrated.activations = activations;
    std::set<const Site*> rounded;
    for (const TargetWeight* weight : linear) rounded.insert(weight->sites.front());
    for (const ScalingPath& path : paths)
        if (path.isOneToOne() && rounded.contains(path.producer)) calibrated.scaledBefore.insert(path.consumer);
    auto prepared = prepareInt8(linear, model, context, rule, calibrated, pass);
    noteSmoothing(prepared, report);
    return prepared;
}

/// Takes out the layers whose error is more than max_error; their errors.
std::map<const TargetWeight*, double> takeOutTheWorst(const std::optional<double>& maxError,
                                                      std::map<const TargetWeight*, PreparedWeight>& prepared) {
    std::map<const TargetWeight*, double> worst;
    std::erase_if(prepared, [&](const auto& entry) {
        const bool tooFar = maxError && entry.second.error > *maxError;
        if (tooFar) worst.emplace(entry.first, entry.second.error);
        return tooFar;
    });
    return worst;
}

QuantizationRule weightRule(const Int8Options& options, PassReport& report) {
    QuantizationRule rule;
    rule.range = options.observer;
    rule.scaleType = DType::float16;
    const TargetIsa isa = resolve(options.targetIsa);
    const bool reduced = options.reduceRange == ReduceRange::always ||
                         (options.reduceRange == ReduceRange::automatic && isa != TargetIsa::vnni);
    if (reduced) rule.balancedLimit = kReducedLimit;
    report.notes.push_back(fmt::format(
        "weights of linear layers use {} bits: target {}{} {}", reduced ? 7 : 8, name(isa),
        options.targetIsa == TargetIsa::automatic ? " (this processor)" : "",
        isa == TargetIsa::vnni ? "sums products exactly" : "saturates sums of two products at 16 bits"));
    return rule;
}

}  // namespace

PassReport quantizeToInt8(ir::Model& model, const PassContext& context, const Int8Options& options,
                          const char* pass, const std::optional<ActivationRange>& activations) {
    PassReport report;
    if (options.requantize) restoreToRequantize(model, context, {options.targets, options.ignore}, pass, report);
    if (activations) raiseOpsetFor(model, kOpsetOfScalesPerChannel, "scales per channel", pass, report);
    if (options.equalize)
        report.notes.push_back(fmt::format("{} pairs of layers equalized", equalizeLayers(model, context.view(model), pass)));
    const analysis::TransformerView& view = context.view(model);
    const std::vector<TargetWeight> weights = targetWeights(
        view,
        {options.targets, options.ignore, WeightQuery::Tables::always, kFewestValuesToStoreNarrower,
         kFewestTableValuesToStoreNarrower},
        report);
    const QuantizationRule rule = weightRule(options, report);
    const std::vector<ScalingPath> paths = scalingPaths(view);
    auto prepared = prepare(weights, model, context, rule, options, pass, activations, paths, report);
    const auto worst = takeOutTheWorst(options.maxError, prepared);
    takeFactors(paths, prepared);
    ir::Edit edit(model, pass);
    Int8Form form(edit, prepared, report);
    context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
    for (const TargetWeight& weight : weights) {
        const auto found = prepared.find(&weight);
        if (const auto left = worst.find(&weight); left != worst.end())
            skip(report, weight,
                 fmt::format("its outputs would be off by {:.2g} of their size, more than max_error {}", left->second,
                             *options.maxError));
        else if (found != prepared.end())
            form.quantize(weight, rule, &found->second);
        else if (activations && weight.hasLinear() && !weight.hasEmbedding())
            skipUnobserved(weight, report);
        else
            form.quantize(weight, rule, nullptr);
        releaseIfMapped(weight.constant->constant()->bytes());
        context.progress().step();
    }
    context.progress().end();
    edit.commit();
    if (activations)
        for (std::string& line : describeQdqGroups(model)) report.notes.push_back(std::move(line));
    return report;
}

}  // namespace tcompress::passes
