// GPTQ: weight-only quantization in which each layer's rounding repays its own error on calibration data.
//
// Layers are taken in the order in which the model computes them, those that read one value together. Each
// stage runs the calibration samples through the model as it is by then (`sequential`), so that a layer sees
// the inputs it will get, and fits what it rounds to what the original model computes there (gptq_fit.h: how
// target and damping are chosen, on samples that are held back). Constants behind the layers take up what is
// left of the mean error. Embedding tables and convolutions are rounded to nearest, first of all.
//
// Source: Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
// Transformers".
//
// Not handled: what quantize/weight-only does not handle; Gemm with a scaled or transposed input has its own
// output as the only target.

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "lib/data/split.h"
#include "lib/ir/edit.h"
#include "passes/passes.h"
#include "passes/quantize/gptq_fit.h"
#include "passes/quantize/layer_evidence.h"
#include "passes/quantize/weight_storage.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/gptq";

/// Share of the samples that choices are made on.
constexpr double kHeldBack = 0.2;

struct Options : StorageOptions {
    Options() { bits = 4; }
    std::optional<double> damp;
    bool actOrder = true;
    std::int64_t blockSize = 128;
    bool sequential = true;
    bool biasCorrection = true;
    GptqTarget target = GptqTarget::automatic;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    addStorageOptions(table);
    table
        .option("damp", &Options::damp,
                "added to the diagonal of the activations' second moments, as a share of its mean; left out: "
                "chosen for each layer on held-back samples")
        .alias("percdamp")
        .alias("dampening_frac")
        .range(1e-6, 100.0)
        .option("act_order", &Options::actOrder,
                "round the input channels with the largest activations first")
        .alias("desc_act")
        .alias("actorder")
        .option("block_size", &Options::blockSize,
                "input channels whose errors are handed on together; for speed only")
        .range(1, 4096)
        .option("sequential", &Options::sequential,
                "calibrate each layer behind the quantized ones before it; false: all on the original model, "
                "in one run")
        .alias("true_sequential")
        .option("bias_correction", &Options::biasCorrection,
                "let the constant behind a layer take up the mean of its error")
        .choice(
            "target", &Options::target,
            {{"auto", GptqTarget::automatic}, {"own", GptqTarget::own}, {"original", GptqTarget::original}},
            "what a layer should reproduce: its own output behind quantized layers, or that of the "
            "original model; auto: what is closer to the original on held-back samples");
    return table;
}

/// What became of one weight.
struct Done {
    const TargetWeight* weight = nullptr;
    QuantizedWeights quantized;
    double error = -1;
    std::optional<LayerBias> bias;
};

class GptqRun {
  public:
    GptqRun(const Options& options, const WeightStorage& storage, ir::Model& model,
            const PassContext& context, PassReport& report)
        : options_(options),
          storage_(storage),
          model_(model),
          working_(model.clone()),
          context_(context),
          report_(report),
          split_(context.calibrationSplit(kPass, "rounding is chosen by what it does to activations",
                                          kHeldBack)),
          streams_(context.view(model), context.original() != nullptr ? *context.original() : model, working_,
                   split_, context) {}

    void run(const std::vector<TargetWeight>& weights) {
        std::vector<const TargetWeight*> linear;
        for (const TargetWeight& weight : weights) {
            const StoragePlan plan = storage_.plan(weight);
            if (!plan.refusal.empty())
                skip(report_, weight, plan.refusal);
            else if (multipliesRows(weight))
                linear.push_back(&weight);
            else
                roundToNearest(weight, plan);
        }
        if (options_.sequential)
            solveInTurn(stagesOf(linear));
        else
            solveAtOnce(stagesOf(linear));
        noteChoices();
        commit();
    }

  private:
    void solveInTurn(const std::vector<LayerStage>& stages) {
        const Targets targets = options_.target == GptqTarget::own ? Targets::none : Targets::original;
        for (const LayerStage& stage : stages) {
            streams_.advanceTo(stage);
            solve(stage, streams_.collect({stage}, targets).front());
        }
    }

    void solveAtOnce(const std::vector<LayerStage>& stages) {
        const auto evidence = streams_.collect(stages, Targets::none);
        for (std::size_t i = 0; i < stages.size(); ++i) solve(stages[i], evidence[i]);
    }

    void solve(const LayerStage& stage, const LayerEvidence& evidence) {
        for (std::size_t i = 0; i < stage.weights.size(); ++i) solve(*stage.weights[i], evidence.of(i));
    }

    void solve(const TargetWeight& weight, calibration::SplitMoments moments) {
        const Tensor& constant = *weight.constant->constant();
        if (moments.fit.rows == 0) return roundToNearest(weight, storage_.plan(weight));
        std::optional<LayerBias> bias = options_.biasCorrection ? biasBehind(weight) : std::nullopt;
        fewestRowsPerInput_ =
            std::min(fewestRowsPerInput_, static_cast<double>(moments.fit.rows + moments.heldBack.rows) /
                                              static_cast<double>(moments.fit.inputs));
        GptqFit fit;
        fit.weights = constant.data<float>();
        fit.layout = storage_.plan(weight).layout;
        fit.rule = storage_.rule();
        fit.moments = std::move(moments);
        fit.hasBias = bias.has_value();
        fit.target = options_.target;
        fit.damps = options_.damp ? std::vector<double>{*options_.damp} : std::vector<double>{0.01, 0.1, 1.0};
        fit.order = options_.actOrder ? ColumnOrder::activation : ColumnOrder::natural;
        fit.blockSize = options_.blockSize;
        auto result = fitGptq(fit);
        if (!result) return skip(report_, weight, kNotFinite);
        if (bias) bias->add(result->biasChange);
        ++(result->nearest ? nearest_ : result->fromOriginal ? fromOriginal_ : own_);
        finish({&weight, std::move(result->weights), result->error, std::move(bias)});
    }

    void roundToNearest(const TargetWeight& weight, const StoragePlan& plan) {
        auto quantized =
            quantizeWeights(weight.constant->constant()->data<float>(), plan.layout, storage_.rule());
        if (!quantized) return skip(report_, weight, kNotFinite);
        finish({&weight, std::move(*quantized), -1, std::nullopt});
    }

    /// Later layers see the weight as it will be.
    void finish(Done done) {
        ir::Edit edit(working_, kPass);
        const std::vector<float> values = dequantizeWeights(done.quantized);
        edit.setConstant(
            working_.graph().find(done.weight->constant->name()),
            Tensor::of<float>(done.weight->constant->constant()->shape(), std::span<const float>(values)));
        if (done.bias) edit.setConstant(working_.graph().find(done.bias->value->name()), done.bias->changed);
        edit.commit();
        done_.push_back(std::move(done));
    }

    void noteChoices() {
        if (own_ + fromOriginal_ + nearest_ == 0) return;
        report_.notes.push_back(fmt::format(
            "chosen on {} held-back samples: {} weights fitted to the layer's own output, {} to the original "
            "model's, {} rounded to nearest",
            split_.heldBack.sampleCount(), own_, fromOriginal_, nearest_));
        if (fewestRowsPerInput_ < 1)
            report_.notes.push_back(
                fmt::format("the calibration data hold fewer tokens than the widest layer has inputs ({:.2f} "
                            "a channel): more samples would help",
                            fewestRowsPerInput_));
    }

    void commit() {
        ir::Edit edit(model_, kPass);
        for (const Done& done : done_) {
            storage_.store(edit, *done.weight, done.quantized, report_, done.error);
            if (done.bias) edit.setConstant(done.bias->value, done.bias->changed);
        }
        edit.commit();
    }

    const Options& options_;
    const WeightStorage& storage_;
    ir::Model& model_;
    ir::Model working_;  ///< the model with the weights that are done replaced by what they stand for
    const PassContext& context_;
    PassReport& report_;
    data::Split split_;
    EvidenceStreams streams_;
    std::vector<Done> done_;
    std::int64_t own_ = 0, fromOriginal_ = 0, nearest_ = 0;
    double fewestRowsPerInput_ = 1;
};

class QuantizeGptq : public pipeline::Pass {
  public:
    explicit QuantizeGptq(const Options& options) : options_(options), storage_(options, kPass) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = storage_.weights(model, context, report);
        GptqRun(options_, storage_, model, context, report).run(weights);
        return report;
    }

  private:
    Options options_;
    WeightStorage storage_;
};

}  // namespace

pipeline::PassInfo quantizeGptq() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "gptq";
    info.summary = "weight-only with calibration data: each rounding repays the error before it";
    info.details =
        "As weight-only, with the codes of linear layers chosen so that the layers' outputs change least on "
        "the calibration data, layer after layer behind the quantized ones. What is fitted to and the "
        "damping "
        "are chosen on a fifth of the samples, which is held back. Embedding tables and convolutions are "
        "rounded to nearest.";
    info.paper =
        "Frantar et al. 2022, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained "
        "Transformers";
    info.data = pipeline::DataNeed::always;
    bindOptions<QuantizeGptq>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkStorageOptions));
    return info;
}

}  // namespace tcompress::passes
