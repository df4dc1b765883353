#include "passes/quantize/mixed/storage_choices.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>

#include "lib/ir/edit.h"
#include "lib/tensor/finite.h"
#include "passes/quantize/mixed/choice_bytes.h"
#include "passes/quantize/mixed/table_damage.h"
#include "passes/quantize/solver/gptq_solver.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/table/row_usage.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

/// Budgets for the rows of a table, in bits a weight.
constexpr double kRowBudgets[] = {8.2, 7,   6.2, 5.5, 5,   4.5,  4.1,  3.7, 3.4,
                                  3,   2.7, 2.4, 2.1, 1.8, 1.55, 1.35, 1.15};
/// The damping that GPTQ most often chooses for itself.
constexpr double kDamp = 0.1;
/// The error of the choice that is put into the model to learn the factor; for tables its bits, and those when
/// all rows are stored alike.
constexpr double kProbeError = 1e-2;
constexpr double kProbeBits = 3;
constexpr double kProbeBitsAlike = 4.1;
/// Damage of a choice that makes outputs overflow: a number, which the knapsack can add up.
constexpr double kLostOutputs = 1e6;

/// What the weights that read one input share.
struct StageMeasure {
    FeedbackFactor factor;
    OutputMetric metric;  ///< of the rows that errors are judged by
};

class Measurement {
  public:
    Measurement(const ir::Model& model, const PassContext& context, const std::string& pass,
                const ChoiceSpace& space, const ChoiceSamples* samples, PassReport& report)
        : model_(model),
          context_(context),
          pass_(pass),
          space_(space),
          samples_(samples),
          report_(report),
          bytes_(model, pass),
          edited_(model.clone()) {
        if (samples != nullptr) judge_.emplace(model, floatOutputs(model), samples->damages, context);
        for (const std::int64_t bits : space.bits)
            for (const std::int64_t group : space.groupSizes)
                for (const DType scales : space.scaleTypes) {
                    StorageOptions options = space.storage;
                    options.bits = bits;
                    options.groupSize = group;
                    options.scaleType = scales;
                    Diagnostics refused;
                    checkStorageOptions(options, "", refused);
                    if (refused.empty())
                        storages_.push_back(std::make_shared<const WeightStorage>(options, pass));
                }
    }

    std::vector<WeightChoices> run(const std::vector<TargetWeight>& weights) {
        for (const TargetWeight& weight : weights) addWeight(weight);
        std::vector<const TargetWeight*> linear;
        for (WeightChoices& choices : result_)
            if (samples_ != nullptr && !choices.table && multipliesRows(*choices.weight))
                linear.push_back(choices.weight);
            else
                measure(choices, nullptr);
        if (!linear.empty()) measureLinear(linear);
        return std::move(result_);
    }

  private:
    void addWeight(const TargetWeight& weight) {
        if (!allFinite(weight.constant->constant()->data<float>())) return skip(report_, weight, kNotFinite);
        WeightChoices choices{&weight, nullptr, {{}}};
        const bool divided = space_.storage.format != WeightFormat::contrib && tieredRefusal(weight).empty() &&
                             weight.constant->constant()->shape()[0] >= kFewestRowsToDivide;
        if (divided)
            addRows(choices);
        else
            addGroups(choices);
        if (choices.choices.size() > 1) result_.push_back(std::move(choices));
    }

    void addRows(WeightChoices& choices) {
        const TargetWeight& weight = *choices.weight;
        std::vector<double> usage = samples_ != nullptr
                                        ? tableUsage(model_, context_, weight, samples_->lookUps)
                                        : tableUsage(model_, context_, pass_, weight, report_);
        choices.table =
            std::make_unique<TieredQuantizer>(context_, weight, std::move(usage), tableFormats());
        double smallest = HUGE_VAL;
        for (const double bits : kRowBudgets) {
            const auto plan = choices.table->plan(
                bits / 8 * static_cast<double>(weight.constant->constant()->size()), space_.tables);
            if (!plan || plan->bytes >= smallest) continue;
            smallest = plan->bytes;
            StorageChoice choice;
            choice.bytes = bytes_.of(weight, choices.table->placeholder(*plan));
            choice.error = plan->error;
            choice.rows = plan;
            choices.choices.push_back(std::move(choice));
        }
    }

    void addGroups(WeightChoices& choices) {
        const TargetWeight& weight = *choices.weight;
        std::string refusal;
        std::map<std::tuple<int, std::int64_t>, std::size_t> seen;
        for (const auto& storage : storages_) {
            const StoragePlan plan = storage->plan(weight);
            if (!plan.refusal.empty()) {
                refusal = plan.refusal;
                continue;
            }
            StorageChoice choice;
            choice.storage = storage;
            choice.bytes = bytes_.of(weight, *storage);
            // Groups as long as the axis are one a channel.
            const auto [known, isNew] =
                seen.try_emplace({storage->rule().bits, plan.layout.block}, choices.choices.size());
            if (isNew)
                choices.choices.push_back(std::move(choice));
            else if (choice.bytes < choices.choices[known->second].bytes)
                choices.choices[known->second] = std::move(choice);
        }
        if (choices.choices.size() == 1) skip(report_, weight, refusal);
    }

    void measureLinear(const std::vector<const TargetWeight*>& linear) {
        ir::Model same = model_.clone();
        EvidenceStreams streams(context_.view(model_), model_, same, samples_->errors, context_);
        for (const LayerStage& stage : stagesOf(linear)) {
            streams.advanceTo(stage);
            const LayerEvidence evidence = streams.collect({stage}, Targets::none).front();
            const std::optional<StageMeasure> stageMeasure = measureOf(evidence.moments);
            for (const TargetWeight* weight : stage.weights) {
                const auto found = std::find_if(result_.begin(), result_.end(), [&](const auto& choices) {
                    return choices.weight == weight;
                });
                measure(*found, stageMeasure ? &*stageMeasure : nullptr);
            }
        }
    }

    static std::optional<StageMeasure> measureOf(const calibration::SplitMoments& moments) {
        if (moments.fit.rows == 0) return std::nullopt;
        const calibration::Moments& judging = moments.heldBack.rows > 0 ? moments.heldBack : moments.fit;
        return StageMeasure{feedbackFactor(moments.fit.gram, moments.fit.inputs, kDamp, ColumnOrder::activation),
                            OutputMetric(judging.gram, judging.inputs)};
    }

    /// The weight as a choice leaves it; with a stage's measure rounded by GPTQ, else to nearest.
    std::vector<float> rounded(const WeightChoices& of, const StorageChoice& choice, const StageMeasure* stage) const {
        if (choice.rows)
            return of.table->encode(*choice.rows).decoded(of.weight->constant->constant()->shape()[1]);
        const auto values = of.weight->constant->constant()->data<float>();
        const kernels::QuantizationLayout layout = choice.storage->plan(*of.weight).layout;
        const QuantizationRule rule = choice.storage->rule(*of.weight);
        return dequantizeWeights(stage == nullptr ? *quantizeWeights(values, layout, rule)
                                                  : *quantizeByGptq(values, layout, rule, stage->factor));
    }

    /// ‖X·W‖² on the rows that errors are judged by; without a stage's measure ‖W‖².
    static double energy(std::span<const float> values, const kernels::QuantizationLayout& layout,
                         const StageMeasure* stage) {
        if (stage != nullptr) return stage->metric.energy(byInputChannel(values, layout));
        double sum = 0;
        for (const float value : values) sum += static_cast<double>(value) * value;
        return sum;
    }

    void measure(WeightChoices& of, const StageMeasure* stage) {
        const auto values = of.weight->constant->constant()->data<float>();
        double all = -1;
        for (StorageChoice& choice : of.choices) {
            if (!choice.storage) continue;
            const kernels::QuantizationLayout layout = choice.storage->plan(*of.weight).layout;
            if (all < 0) all = energy(values, layout, stage);
            std::vector<float> lost = rounded(of, choice, stage);
            for (std::size_t i = 0; i < lost.size(); ++i) lost[i] -= values[i];
            choice.error = all > 0 ? energy(lost, layout, stage) / all : 0;
        }
        const double factor = samples_ == nullptr ? 1 : of.table ? tableFactor(of) : damageFactor(of, stage);
        for (StorageChoice& choice : of.choices) choice.damage = factor * choice.error;
        context_.progress().step(0);
    }

    /// Damage of a table's choices by their error.
    double tableFactor(const WeightChoices& of) {
        if (!tableDamage_) tableDamage_.emplace(model_, context_, pass_, samples_->lookUps);
        const double bytes = kProbeBits / 8 * static_cast<double>(of.weight->constant->constant()->size());
        const auto factor = tableDamage_->factor(*of.weight, *of.table, bytes, space_.tables);
        return factor ? std::min(*factor, kLostOutputs) : damageFactor(of, nullptr);
    }

    /// The choice that is put into the model. A table's rows are all stored alike: divided by their use, those
    /// that the samples read would be better off than others, and the damage would seem small.
    StorageChoice probeOf(const WeightChoices& of) const {
        if (of.table) {
            const auto values = static_cast<double>(of.weight->constant->constant()->size());
            StorageChoice alike;
            alike.rows = of.table->plan(kProbeBitsAlike / 8 * values, 1);
            if (alike.rows) alike.error = alike.rows->error;
            if (alike.error > 0) return alike;
        }
        const auto distance = [](const StorageChoice& choice) {
            return choice.error > 0 ? std::fabs(std::log(choice.error / kProbeError)) : HUGE_VAL;
        };
        return *std::min_element(
            of.choices.begin(), of.choices.end(),
            [&](const StorageChoice& a, const StorageChoice& b) { return distance(a) < distance(b); });
    }

    /// Damage of one choice by its error.
    double damageFactor(const WeightChoices& of, const StageMeasure* stage) {
        const StorageChoice probe = probeOf(of);
        if (!(probe.error > 0)) return 0;
        const Tensor constant = *of.weight->constant->constant();
        const std::vector<float> values = rounded(of, probe, stage);
        replace(*of.weight, Tensor::of<float>(constant.shape(), std::span<const float>(values)));
        const double damage = std::min(judge_->error(edited_), kLostOutputs);
        replace(*of.weight, constant);
        return damage / probe.error;
    }

    void replace(const TargetWeight& weight, Tensor values) {
        ir::Edit edit(edited_, pass_);
        edit.setConstant(edited_.graph().find(weight.constant->name()), std::move(values));
        edit.commit();
    }

    const ir::Model& model_;
    const PassContext& context_;
    const std::string& pass_;
    const ChoiceSpace& space_;
    const ChoiceSamples* samples_;
    PassReport& report_;
    ChoiceBytes bytes_;
    ir::Model edited_;  ///< the model with at most one weight replaced
    std::optional<OutputJudge> judge_;  ///< by the samples for damages
    std::optional<TableDamage> tableDamage_;  ///< made for the first table
    std::vector<std::shared_ptr<const WeightStorage>> storages_;
    std::vector<WeightChoices> result_;
};

}  // namespace

std::vector<WeightChoices> measureChoices(const ir::Model& model, const PassContext& context,
                                          const std::string& pass, const ChoiceSpace& space,
                                          const std::vector<TargetWeight>& weights,
                                          const ChoiceSamples* samples, PassReport& report) {
    return Measurement(model, context, pass, space, samples, report).run(weights);
}

}  // namespace tcompress::passes
