#include "passes/quantize/mixed/sensitivity.h"

#include "lib/ir/edit.h"
#include "passes/quantize/storage/packed_codes.h"
#include "passes/quantize/storage/weight_storage.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {
namespace {

constexpr const char* kPass = "sensitivity";

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
    const pipeline::PassContext context(nullptr, 0, kPass, progress);
    const OutputJudge judge(model, floatOutputs(model), samples, context);
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
            const auto quantized = quantizeWeights(constant.data<float>(), plan.layout, storage.rule(weight));
            if (!quantized) continue;
            const std::vector<float> values = dequantizeWeights(*quantized);
            ir::Value* target = edited.graph().find(weight.constant->name());
            ir::Edit edit(edited, kPass);
            edit.setConstant(target, Tensor::of<float>(constant.shape(), std::span<const float>(values)));
            edit.commit();
            found.damages.push_back({bits, storedBytes(*quantized), judge.error(edited)});
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
