// Trains what is left of a model to give what the original gives: knowledge distillation, without labels.
//
// Sources: Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network"; hidden states as targets: Sun et
// al. 2019, "Patient Knowledge Distillation for BERT Model Compression". Weights move by Adam (lib/train/adam.h) with
// gradients that the executor computes (lib/train). Samples that are held back say which weights of the run are kept.

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "passes/distill/learnable_constants.h"
#include "passes/distill/learning.h"
#include "passes/distill/learning_samples.h"
#include "passes/distill/teacher.h"
#include "passes/passes.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "distill";

struct Options {
    std::int64_t steps = 500;
    std::int64_t batchSize = 16;
    std::optional<double> learningRate;
    train::Distance loss = train::Distance::squared;
    double temperature = 2;
    double hidden = 1;
    std::optional<std::int64_t> enlarge;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("steps", &Options::steps, "batches to learn from")
        .range(1, 10'000'000)
        .option("batch_size", &Options::batchSize, "samples in a batch")
        .range(2, 65536)
        .option("learning_rate", &Options::learningRate,
                "how far a weight moves at a step of Adam: rises to this for a tenth of the steps, then falls to 0. Left out: found by "
                "runs of a fifth of the steps, judged on held-back samples")
        .alias("lr")
        .range(0.0, 1.0)
        .choice("loss", &Options::loss, {{"mse", train::Distance::squared}, {"kl", train::Distance::divergence}},
                "how outputs are compared with the original's: by squared error relative to their size; or as logits, by the divergence "
                "of the probabilities")
        .option("temperature", &Options::temperature, "what logits are divided by before they become probabilities, with loss kl")
        .range(0.01, 1000.0)
        .option("hidden", &Options::hidden, "what the outputs of all blocks together count, where the model's count 1; 0: not looked at")
        .range(0.0, 1e6)
        .option("enlarge", &Options::enlarge,
                "samples to learn from for each one given, the others made of it (see data.calibration.enlarge); left out: as the recipe "
                "says for all passes")
        .range(1, 1000)
        .option("targets", &Options::targets, "layers that learn, by patterns; left out: all linear layers, and all gains and biases")
        .option("ignore", &Options::ignore, "layers that do not learn, by patterns");
    return table;
}

class Distill : public pipeline::Pass {
  public:
    explicit Distill(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const analysis::TransformerView& view = context.view(model);
        const LearningSamples samples = learningSamples(model, context, kPass, options_.enlarge);
        const ir::Model& original = context.input() == nullptr ? model : *context.input();
        const LearnableConstants learnable =
            learnableConstants(model, view, {options_.targets, options_.ignore, WeightQuery::Tables::whenNamed}, report);
        if (learnable.names.empty()) throw PassError(fmt::format("{}: no weight, bias or gain is one that can learn", kPass));
        const std::int64_t batchSize = batchSizeFor(model, samples.fit);
        const exec::Feeds first = samples.fit.rows(0, batchSize);
        Teacher teacher(original, model, view, {options_.loss, options_.temperature, hiddenFor(context)}, first);
        requireGradients(model, teacher.terms(), learnable.names, first);
        train::Trainer trainer(model, learnable.names, teacher.terms(), learnable.zeros);
        const HeldBack heldBack(model, samples.judges, teacher);
        const double before = heldBack.error(trainer);
        if (before < kNoError)
            throw PassError(fmt::format("{}: the model gives what the one that the run started from gives; put this pass behind those that "
                                        "change it", kPass));

        Course course{model, samples.fit, batchSize, teacher, trainer, heldBack, before, context.random("order"), context.progress()};
        const double rate = options_.learningRate ? *options_.learningRate
                                                  : rateFor(course, std::max<std::int64_t>(1, options_.steps / kTrialShare));
        const Learnt learnt = learn(course, options_.steps, rate, kTrials);
        if (learnt.step == 0) {
            report.notes.push_back(fmt::format("the weights stay as they were: on held-back samples no step of {} at a rate of {:.2g} came "
                                               "nearer to the original", options_.steps, rate));
            return report;
        }
        ir::Edit edit(model, kPass);
        for (const auto& [name, tensor] : learnt.weights) edit.setConstant(model.graph().find(name), tensor);
        edit.commit();
        describe(report, learnable);
        report.notes.push_back(fmt::format("error of the outputs on held-back samples {:.4g}, before {:.4g}: weights after {} of {} steps, "
                                           "each of {} of {} samples ({} given), at a rate of {:.2g}",
                                           learnt.error, before, learnt.step, options_.steps, batchSize, samples.fit.sampleCount(), samples.given, rate));
        return report;
    }

  private:
    std::int64_t batchSizeFor(const ir::Model& model, const data::Dataset& samples) const {
        const std::int64_t fixed = data::fixedBatchSize(model);
        const std::int64_t size = fixed > 0 ? fixed : std::min(options_.batchSize, samples.sampleCount());
        // A single sample does not show along which axes operands are repeated.
        const std::int64_t fewest = fixed > 0 ? fixed : 2;
        if (samples.sampleCount() < fewest)
            throw PassError(fmt::format("{}: {} samples are needed to learn from, and {} {} there", kPass, fewest, samples.sampleCount(),
                                        samples.sampleCount() == 1 ? "is" : "are"));
        return size;
    }

    static void requireGradients(const ir::Model& model, const std::vector<train::LossTerm>& terms, const std::vector<std::string>& constants,
                                 const exec::Feeds& feeds) {
        std::vector<std::string> values;
        for (const train::LossTerm& term : terms) values.push_back(term.value);
        if (const std::string problem = train::whyNoGradients(model, values, constants, train::seenValues(model, feeds)); !problem.empty())
            throw PassError(fmt::format("{}: {}; put this pass before those that round activations, and before ONNX Runtime's optimizer", kPass, problem));
    }

    static void describe(PassReport& report, const LearnableConstants& learnable) {
        for (const TargetWeight& weight : learnable.matrices) report.changed.push_back({weight.name(), "learnt"});
        if (const std::size_t vectors = learnable.names.size() - learnable.matrices.size(); vectors > 0)
            report.changed.push_back({"gains and biases", fmt::format("{} learnt", vectors)});
    }

    /// Behind passes that move values the blocks' outputs hold something else.
    double hiddenFor(const PassContext& context) const { return context.original() == context.input() ? options_.hidden : 0; }

    /// Rounding makes less.
    static constexpr double kNoError = 1e-9;
    /// Times that the weights are judged on the way.
    static constexpr std::int64_t kTrials = 10;
    /// What a run that tries a rate takes of the steps.
    static constexpr std::int64_t kTrialShare = 5;

    Options options_;
};

}  // namespace

pipeline::PassInfo distill() {
    pipeline::PassInfo info;
    info.type = "distill";
    info.summary = "train what is left to give the original's outputs, without labels";
    info.details =
        "Trains weights, biases and gains so that the model gives what the one that the run started from gives on calibration "
        "data. A quarter of the samples is held back; the weights that are nearest to the original there are kept. Zeros of pruned "
        "matrices stay zero; embedding tables, convolutions and weights that are stored in codes stay as they are, so distil before quantizing.";
    info.paper = "Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network";
    info.data = pipeline::DataNeed::always;
    info.idleIsFine = true;
    bindOptions<Distill, Options>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
