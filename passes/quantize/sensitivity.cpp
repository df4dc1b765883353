#include "passes/quantize/sensitivity.h"

#include "lib/calibration/collector.h"
#include "lib/calibration/similarity.h"
#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "passes/quantize/packed_codes.h"
#include "passes/quantize/weight_storage.h"

namespace tcompress::passes {
namespace {

constexpr const char* kPass = "sensitivity";

using OutputPairs = std::vector<std::pair<const ir::Value*, const ir::Value*>>;

/// Floating-point outputs of both models.
OutputPairs floatOutputs(const ir::Model& original, const ir::Model& edited) {
    OutputPairs pairs;
    for (std::size_t i = 0; i < original.graph().outputs().size(); ++i) {
        const ir::Value* output = original.graph().outputs()[i];
        if (isFloatingPoint(output->dtype()) && output->producer() != nullptr)
            pairs.emplace_back(output, edited.graph().outputs()[i]);
    }
    if (pairs.empty()) throw PassError("sensitivity: the model has no floating-point output to compare");
    return pairs;
}

double damage(const ir::Model& original, const ir::Model& edited, const data::Dataset& samples) {
    calibration::Collector collector(original, edited);
    std::vector<const calibration::SimilaritySums*> sums;
    for (const auto& [before, after] : floatOutputs(original, edited))
        sums.push_back(&collector.add<calibration::SimilaritySums>(
            calibration::Source(before, calibration::Side::original), calibration::Source(after)));
    collector.run(samples, silentProgress());
    double sum = 0;
    for (const calibration::SimilaritySums* output : sums) sum += output->result().relativeError();
    return sum / static_cast<double>(sums.size());
}

std::int64_t storedBytes(const QuantizedWeights& quantized) {
    const kernels::QuantizationLayout& layout = quantized.layout;
    const auto groups = static_cast<std::int64_t>(quantized.scales.size());
    const int bits = quantized.rule.bits;
    return PackedCodes::sizeBytes(bits, 1, layout.size()) +
           (quantized.zeroPoints.empty() ? 0 : PackedCodes::sizeBytes(bits, 1, groups)) +
           groups * bitsPerElement(quantized.rule.scaleType) / 8;
}

}  // namespace

std::vector<WeightSensitivity> measureSensitivity(const ir::Model& model, const data::Dataset& samples,
                                                  const SensitivityRequest& request, Progress& progress) {
    const analysis::TransformerView view = analysis::recognise(model);
    pipeline::PassReport unused;
    const std::vector<TargetWeight> weights =
        targetWeights(view,
                      {request.targets, request.ignore, WeightQuery::Tables::always,
                       kFewestValuesToStoreNarrower, kFewestTableValuesToStoreNarrower},
                      unused);
    ir::Model edited = model.clone();
    floatOutputs(model, edited);
    std::vector<WeightSensitivity> result;
    progress.begin("rounding one weight at a time",
                   static_cast<std::int64_t>(weights.size() * request.bits.size()));
    for (const TargetWeight& weight : weights) {
        const Tensor constant = *weight.constant->constant();
        const analysis::Site& site = *weight.sites.front();
        WeightSensitivity found{weight.name(), std::string(name(site.role)), constant.size(), {}};
        for (const std::int64_t bits : request.bits) {
            StorageOptions options;
            options.bits = bits;
            options.groupSize = request.groupSize;
            const WeightStorage storage(options, kPass);
            const StoragePlan plan = storage.plan(weight);
            progress.step();
            if (!plan.refusal.empty()) continue;
            const auto quantized = quantizeWeights(constant.data<float>(), plan.layout, storage.rule());
            if (!quantized) continue;
            const std::vector<float> values = dequantizeWeights(*quantized);
            ir::Value* target = edited.graph().find(weight.constant->name());
            ir::Edit edit(edited, kPass);
            edit.setConstant(target, Tensor::of<float>(constant.shape(), std::span<const float>(values)));
            edit.commit();
            found.damages.push_back({bits, storedBytes(*quantized), damage(model, edited, samples)});
        }
        ir::Edit restore(edited, kPass);
        restore.setConstant(edited.graph().find(weight.constant->name()), constant);
        restore.commit();
        if (!found.damages.empty()) result.push_back(std::move(found));
    }
    progress.end();
    return result;
}

}  // namespace tcompress::passes
