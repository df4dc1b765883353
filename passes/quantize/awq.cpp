// AWQ: weight-only quantization in which weights that meet large activations are scaled up before they are
// rounded (awq_solver.h).
//
//   MatMul(x, W)  →  MatMul(x · (1/s), dequantized(s · W))
//
// What makes x takes 1/s where that is exact: a norm that nothing but these layers reads, the projection of
// attention's values before the output projection, the layer before ReLU or beside a gate
// (passes/support/channel_map.h, scaling_paths.h). Elsewhere one Mul serves all layers that read x.
//
// Layers that gain nothing from scales keep their input as it is. Embedding tables and convolutions are
// rounded by themselves (hqq_solver.h).
//
// Source: Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration".
//
// Not handled: what quantize/weight-only does not handle; weights that are used at several places are rounded by
// themselves.

#include <fmt/core.h>

#include <cmath>
#include <map>

#include "lib/calibration/channel_statistics.h"
#include "lib/ir/edit.h"
#include "passes/passes.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/awq_solver.h"
#include "passes/quantize/solver/hqq_solver.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "passes/quantize/storage/weight_storage.h"
#include "passes/support/channel_map.h"
#include "passes/support/scaling_paths.h"

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

/// Solves stages, gives their factors to what makes their inputs, and stores the codes.
class AwqRun {
  public:
    AwqRun(std::int64_t steps, const WeightStorage& storage, const analysis::TransformerView& view,
           const std::vector<LayerStage>& stages, ir::Edit& edit)
        : steps_(steps), storage_(storage), stages_(stages), edit_(edit), done_(stages.size()) {
        for (const LayerStage& stage : stages)
            for (const TargetWeight* weight : stage.weights) bySite_[weight->sites.front()] = weight;
        for (const ScalingPath& path : scalingPaths(view))
            if (path.isOneToOne() && bySite_.contains(path.producer)) paths_[path.consumer] = path;
    }

    void solve(std::size_t stage, const ChannelStatistics* input) {
        Done& done = done_[stage];
        std::vector<AwqLayer> layers;
        double energy = 0;
        for (const TargetWeight* weight : stages_[stage].weights) {
            layers.push_back({valuesOf(*weight), storage_.plan(*weight).layout});
            if (input != nullptr)
                energy += outputEnergy(layers.back().weights, layers.back().layout, input->secondMoment);
        }
        std::optional<AwqSolution> solution;
        if (input != nullptr)
            solution =
                quantizeByAwq(layers, storage_.rule(), input->secondMoment, input->meanAbsolute, steps_);
        if (!solution) {
            for (const AwqLayer& layer : layers)
                done.weights.push_back(quantizeByHqq(layer.weights, layer.layout, storage_.rule(), {}));
            return;
        }
        done.error = energy > 0 ? std::sqrt(solution->error / energy) : 0;
        for (QuantizedWeights& weights : solution->weights) done.weights.emplace_back(std::move(weights));
        if (solution->exponent > 0) scaleInput(stages_[stage], solution->scales);
    }

    void store(PassReport& report) {
        for (std::size_t i = 0; i < stages_.size(); ++i)
            for (std::size_t k = 0; k < stages_[i].weights.size(); ++k) {
                const TargetWeight& weight = *stages_[i].weights[k];
                if (done_[i].weights[k])
                    storage_.store(edit_, weight, std::move(*done_[i].weights[k]), report, done_[i].error);
                else
                    skip(report, weight, kNotFinite);
            }
        report.notes.push_back(fmt::format(
            "{} of {} inputs of linear layers are scaled, {} of them by a norm or a layer before", scaled_,
            stages_.size(), folded_));
    }

  private:
    struct Done {
        std::vector<std::optional<QuantizedWeights>> weights;  ///< nothing: not finite
        double error = -1;
    };

    /// The weight with the factors that it has taken from the layer behind it.
    std::span<const float> valuesOf(const TargetWeight& weight) const {
        const auto found = changed_.find(&weight);
        return found == changed_.end() ? weight.constant->constant()->data<float>()
                                       : std::span<const float>(found->second);
    }

    void scaleInput(const LayerStage& stage, const std::vector<float>& scales) {
        std::vector<float> inverse;
        for (const float scale : scales) inverse.push_back(1.0F / scale);
        ++scaled_;
        const auto path = stage.weights.size() == 1 ? paths_.find(stage.weights.front()->sites.front()) : paths_.end();
        if (path != paths_.end()) {
            ++folded_;
            return scaleProducer(path->second, inverse);
        }
        auto* input = const_cast<ir::Value*>(stage.inputs.front());
        std::vector<const ir::Node*> readers;
        for (const TargetWeight* weight : stage.weights) readers.push_back(weight->sites.front()->node);
        ir::Value* mapped = mapChannels(edit_, input, readers, {inverse, {}});
        if (mapped == input) ++folded_;
        for (const TargetWeight* weight : stage.weights) {
            ir::Node& node = *weight->sites.front()->node;
            for (std::size_t i = 0; i < node.inputs().size(); ++i)
                if (node.input(i) == input && mapped != input) edit_.replaceInput(&node, i, mapped);
        }
    }

    void scaleProducer(const ScalingPath& path, const std::vector<float>& factors) {
        std::vector<float> byOutput(static_cast<std::size_t>(path.producer->outFeatures), 1.0F);
        for (std::size_t i = 0; i < factors.size(); ++i)
            byOutput[static_cast<std::size_t>(path.channels[i])] = factors[i];
        const TargetWeight& weight = *bySite_.at(path.producer);
        const std::int64_t columns = weight.constant->constant()->shape()[1];
        const auto before = valuesOf(weight);
        std::vector<float> after(before.begin(), before.end());
        for (std::size_t i = 0; i < after.size(); ++i) {
            const std::int64_t row = static_cast<std::int64_t>(i) / columns, column = static_cast<std::int64_t>(i) % columns;
            after[i] *= byOutput[static_cast<std::size_t>(weight.outAxis == 0 ? row : column)];
        }
        changed_[&weight] = std::move(after);
        if (ir::Value* bias = path.producer->bias) {
            Tensor scaled = *bias->constant();
            const auto values = scaled.mutableData<float>();
            for (std::size_t i = 0; i < values.size(); ++i) values[i] *= byOutput[i];
            edit_.setConstant(bias, scaled);
        }
    }

    std::int64_t steps_;
    const WeightStorage& storage_;
    const std::vector<LayerStage>& stages_;
    ir::Edit& edit_;
    std::vector<Done> done_;
    std::map<const analysis::Site*, const TargetWeight*> bySite_;
    std::map<const analysis::Site*, ScalingPath> paths_;  ///< by consumer
    std::map<const TargetWeight*, std::vector<float>> changed_;
    std::size_t scaled_ = 0, folded_ = 0;
};

class QuantizeAwq : public pipeline::Pass {
  public:
    explicit QuantizeAwq(const Options& options) : options_(options), storage_(options, kPass) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const data::Dataset& samples =
            context.calibration(kPass, "scales are found by how large activations are");
        const std::vector<TargetWeight> weights = storage_.weights(model, context, report);
        ir::Edit edit(model, kPass);
        std::vector<const TargetWeight*> linear, alone;
        for (const TargetWeight& weight : weights) {
            const StoragePlan plan = storage_.plan(weight);
            if (!plan.refusal.empty())
                skip(report, weight, plan.refusal);
            else if (multipliesRows(weight) && weight.sites.size() == 1)
                linear.push_back(&weight);
            else
                alone.push_back(&weight);
        }
        const std::vector<LayerStage> stages = stagesOf(linear);
        calibration::ValueSet inputs;
        for (const LayerStage& stage : stages) inputs.insert(stage.inputs.front());
        const auto statistics = calibration::collectChannelStatistics(
            model, samples, inputs, calibration::MomentOrder::second, context.progress(), context.resources());
        AwqRun run(options_.steps, storage_, context.view(model), stages, edit);
        // From the last to the first: a layer takes the factors of the one behind it before it is rounded itself.
        for (std::size_t i = stages.size(); i-- > 0;) {
            const auto found = statistics.find(stages[i].inputs.front());
            run.solve(i, found == statistics.end() ? nullptr : &found->second);
        }
        run.store(report);
        // Behind the factors: what a table gives is decoded before a Mul of theirs reads it.
        for (const TargetWeight* weight : alone) roundAlone(edit, *weight, report);
        edit.commit();
        return report;
    }

  private:
    void roundAlone(ir::Edit& edit, const TargetWeight& weight, PassReport& report) const {
        auto quantized = quantizeByHqq(weight.constant->constant()->data<float>(), storage_.plan(weight).layout,
                                       storage_.rule(weight), {});
        if (!quantized) return skip(report, weight, kNotFinite);
        storage_.store(edit, weight, std::move(*quantized), report);
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
        "mean activation, found by the error of the layers' outputs, and the activations divided by it: in the "
        "norm or the layer that makes them where that is exact, else by one Mul. Embedding tables and convolutions are rounded as by hqq without data.";
    info.paper =
        "Lin et al. 2023, AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration";
    info.data = pipeline::DataNeed::always;
    bindOptions<QuantizeAwq>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkStorageOptions));
    return info;
}

}  // namespace tcompress::passes
