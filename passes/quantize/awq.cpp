// AWQ: weight-only quantization in which weights that meet large activations are scaled up before they are
// rounded (awq_solver.h).
//
//   MatMul(x, W)  →  MatMul(x · (1/s), dequantized(s · W))          one Mul for all layers that read x
//
// Layers that gain nothing from scales keep their input as it is. Embedding tables and convolutions are
// rounded by themselves (hqq_solver.h).
//
// Source: Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration".
//
// Not handled: what quantize/weight-only does not handle; factors are not folded into what makes x; weights
// that are used at several places are rounded by themselves.

#include <fmt/core.h>

#include <cmath>

#include "lib/calibration/channel_statistics.h"
#include "lib/ir/edit.h"
#include "passes/passes.h"
#include "passes/quantize/awq_solver.h"
#include "passes/quantize/hqq_solver.h"
#include "passes/quantize/layer_evidence.h"
#include "passes/quantize/output_error.h"
#include "passes/quantize/weight_storage.h"
#include "passes/support/emit.h"

namespace tcompress::passes {
namespace {

using calibration::ChannelStatistics;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/awq";

struct Options : StorageOptions {
    Options() { bits = 4; }
    std::int64_t steps = 20;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    addStorageOptions(table);
    table
        .option("steps", &Options::steps,
                "exponents tried between 0 (no scales) and 1 (scales proportional to the activations)")
        .range(1, 200);
    return table;
}

class QuantizeAwq : public pipeline::Pass {
  public:
    explicit QuantizeAwq(const Options& options) : options_(options), storage_(options, kPass) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const data::Dataset& samples =
            context.calibration(kPass, "scales are found by how large activations are");
        const std::vector<TargetWeight> weights = storage_.weights(model, context, report);
        ir::Edit edit(model, kPass);
        std::vector<const TargetWeight*> linear;
        for (const TargetWeight& weight : weights) {
            const StoragePlan plan = storage_.plan(weight);
            if (!plan.refusal.empty())
                skip(report, weight, plan.refusal);
            else if (multipliesRows(weight) && weight.sites.size() == 1)
                linear.push_back(&weight);
            else
                roundAlone(edit, weight, plan, report);
        }
        const std::vector<LayerStage> stages = stagesOf(linear);
        calibration::ValueSet inputs;
        for (const LayerStage& stage : stages) inputs.insert(stage.inputs.front());
        const auto statistics = calibration::collectChannelStatistics(
            model, samples, inputs, calibration::MomentOrder::second, context.progress());
        std::size_t scaledStages = 0;
        for (const LayerStage& stage : stages) {
            const auto found = statistics.find(stage.inputs.front());
            scaledStages += solve(edit, stage, found == statistics.end() ? nullptr : &found->second, report);
        }
        report.notes.push_back(
            fmt::format("{} of {} inputs of linear layers are scaled", scaledStages, stages.size()));
        edit.commit();
        return report;
    }

  private:
    void roundAlone(ir::Edit& edit, const TargetWeight& weight, const StoragePlan& plan,
                        PassReport& report) const {
        const auto quantized =
            quantizeByHqq(weight.constant->constant()->data<float>(), plan.layout, storage_.rule(weight), {});
        if (!quantized) return skip(report, weight, kNotFinite);
        storage_.store(edit, weight, *quantized, report);
    }

    /// 1 when the stage's input is scaled, else 0.
    std::size_t solve(ir::Edit& edit, const LayerStage& stage, const ChannelStatistics* input,
                      PassReport& report) const {
        std::vector<AwqLayer> layers;
        double energy = 0;
        for (const TargetWeight* weight : stage.weights) {
            layers.push_back({weight->constant->constant()->data<float>(), storage_.plan(*weight).layout});
            if (input != nullptr)
                energy += outputEnergy(layers.back().weights, layers.back().layout, input->secondMoment);
        }
        std::optional<AwqSolution> solution;
        if (input != nullptr)
            solution = quantizeByAwq(layers, storage_.rule(), input->secondMoment, input->meanAbsolute,
                                     options_.steps);
        if (!solution) {
            for (const TargetWeight* weight : stage.weights)
                roundAlone(edit, *weight, storage_.plan(*weight), report);
            return 0;
        }
        const double error = energy > 0 ? std::sqrt(solution->error / energy) : 0;
        for (std::size_t i = 0; i < stage.weights.size(); ++i)
            storage_.store(edit, *stage.weights[i], solution->weights[i], report, error);
        if (solution->exponent == 0) return 0;
        scaleInput(edit, stage, solution->scales);
        return 1;
    }

    static void scaleInput(ir::Edit& edit, const LayerStage& stage, const std::vector<float>& scales) {
        auto* input = const_cast<ir::Value*>(stage.inputs.front());
        std::vector<float> inverse;
        for (const float scale : scales) inverse.push_back(1.0F / scale);
        ir::Value* factors = edit.addInitializer(
            input->name() + "_factors",
            Tensor::of<float>({static_cast<std::int64_t>(inverse.size())}, std::span<const float>(inverse)));
        ir::Value* scaled = emit(edit, "Mul", {input, factors});
        for (const TargetWeight* weight : stage.weights) {
            ir::Node& node = *weight->sites.front()->node;
            for (std::size_t i = 0; i < node.inputs().size(); ++i)
                if (node.input(i) == input) edit.replaceInput(&node, i, scaled);
        }
    }

    Options options_;
    WeightStorage storage_;
};

}  // namespace

pipeline::PassInfo quantizeAwq() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "awq";
    info.summary = "weight-only with calibration data: weights scaled by how large their activations are";
    info.details =
        "As weight-only, with the weights of each input channel multiplied before rounding by a power of its "
        "mean activation, found by the error of the layers' outputs, and the activations divided by it. "
        "Embedding tables and convolutions are rounded as by hqq without data.";
    info.paper =
        "Lin et al. 2023, AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration";
    info.data = pipeline::DataNeed::always;
    bindOptions<QuantizeAwq>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkStorageOptions));
    return info;
}

}  // namespace tcompress::passes
