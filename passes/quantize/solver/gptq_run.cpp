#include "passes/quantize/solver/gptq_run.h"

#include <fmt/core.h>

#include <algorithm>
#include <unordered_map>

#include "lib/ir/edit.h"
#include "passes/quantize/solver/hqq_solver.h"
#include "passes/quantize/solver/layer_evidence.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

/// What became of one weight.
struct Done {
    const TargetWeight* weight = nullptr;
    QuantizedWeights quantized;
    double error = -1;
    std::optional<LayerBias> bias;
};

class GptqRun {
  public:
    GptqRun(ir::Model& model, const analysis::TransformerView& view, const PassContext& context,
            std::string pass, const GptqSettings& settings, const data::Split& samples, PassReport& report)
        : settings_(settings),
          pass_(std::move(pass)),
          model_(model),
          working_(model.clone()),
          report_(report),
          samples_(samples),
          streams_(view, context.original() != nullptr ? *context.original() : model, working_, samples,
                   context) {}

    void run(const std::vector<StoredWeight>& weights) {
        std::vector<const TargetWeight*> linear;
        for (const auto& [weight, storage] : weights) {
            storages_.emplace(weight, storage);
            const StoragePlan plan = storage->plan(*weight);
            if (!plan.refusal.empty())
                skip(report_, *weight, plan.refusal);
            else if (multipliesRows(*weight))
                linear.push_back(weight);
            else
                roundAlone(*weight);
        }
        if (settings_.sequence == LayerSequence::behindQuantized)
            solveInTurn(stagesOf(linear));
        else
            solveAtOnce(stagesOf(linear));
        noteChoices();
        commit();
    }

  private:
    void solveInTurn(const std::vector<LayerStage>& stages) {
        const Targets targets = settings_.target == GptqTarget::own ? Targets::none : Targets::original;
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
        if (moments.fit.rows == 0) return roundAlone(weight);
        std::optional<LayerBias> bias;
        if (settings_.biases == BiasCorrection::yes) bias = biasBehind(weight);
        fewestRowsPerInput_ =
            std::min(fewestRowsPerInput_, static_cast<double>(moments.fit.rows + moments.heldBack.rows) /
                                              static_cast<double>(moments.fit.inputs));
        GptqFit fit;
        fit.weights = constant.data<float>();
        fit.layout = storageOf(weight).plan(weight).layout;
        fit.rule = storageOf(weight).rule(weight);
        fit.moments = std::move(moments);
        fit.hasBias = bias.has_value();
        fit.target = settings_.target;
        fit.damps = settings_.damps;
        fit.order = settings_.order;
        fit.blockSize = settings_.blockSize;
        fit.sweeps = settings_.sweeps;
        auto result = fitGptq(fit);
        if (!result) return skip(report_, weight, kNotFinite);
        if (bias) bias->add(result->biasChange);
        ++(result->nearest ? nearest_ : result->fromOriginal ? fromOriginal_ : own_);
        finish({&weight, std::move(result->weights), result->error, std::move(bias)});
    }

    const WeightStorage& storageOf(const TargetWeight& weight) const { return *storages_.at(&weight); }

    void roundAlone(const TargetWeight& weight) {
        const WeightStorage& storage = storageOf(weight);
        auto quantized = quantizeByHqq(weight.constant->constant()->data<float>(),
                                       storage.plan(weight).layout, storage.rule(weight), {});
        if (!quantized) return skip(report_, weight, kNotFinite);
        finish({&weight, std::move(*quantized), -1, std::nullopt});
    }

    /// Later layers see the weight as it will be.
    void finish(Done done) {
        ir::Edit edit(working_, pass_);
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
            samples_.heldBack.sampleCount(), own_, fromOriginal_, nearest_));
        if (fewestRowsPerInput_ < 1)
            report_.notes.push_back(
                fmt::format("the calibration data hold fewer tokens than the widest layer has inputs ({:.2f} "
                            "a channel): more samples would help",
                            fewestRowsPerInput_));
    }

    void commit() {
        ir::Edit edit(model_, pass_);
        for (Done& done : done_) {
            storageOf(*done.weight).store(edit, *done.weight, std::move(done.quantized), report_, done.error);
            if (done.bias) edit.setConstant(done.bias->value, done.bias->changed);
        }
        edit.commit();
    }

    const GptqSettings& settings_;
    std::string pass_;
    ir::Model& model_;
    ir::Model working_;  ///< the model with the weights that are done replaced by what they stand for
    PassReport& report_;
    const data::Split& samples_;
    EvidenceStreams streams_;
    std::unordered_map<const TargetWeight*, const WeightStorage*> storages_;
    std::vector<Done> done_;
    std::int64_t own_ = 0, fromOriginal_ = 0, nearest_ = 0;
    double fewestRowsPerInput_ = 1;
};

}  // namespace

void quantizeByGptqInTurn(ir::Model& model, const analysis::TransformerView& view, const PassContext& context,
                          const std::string& pass, const GptqSettings& settings, const data::Split& samples,
                          const std::vector<StoredWeight>& weights, PassReport& report) {
    GptqRun(model, view, context, pass, settings, samples, report).run(weights);
}

}  // namespace tcompress::passes
