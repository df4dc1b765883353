#include "passes/quantize/mixed/storage_choices.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>

#include "lib/ir/edit.h"
#include "lib/ir/export.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/gptq_solver.h"
#include "passes/quantize/solver/layer_evidence.h"
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
/// The error of the choice that is put into the model to learn the factor, and for tables its bits.
constexpr double kProbeError = 1e-2;
constexpr double kProbeBits = 4.1;
/// Damage of a choice that makes outputs overflow: a number, which the knapsack can add up.
constexpr double kLostOutputs = 1e6;
/// Operands that layers share (shapes, shifts, offsets) are smaller, without their names.
constexpr std::size_t kSharedBytes = 72;

/// Bytes of nodes and constants, without small constants and descriptions of values.
std::int64_t partBytes(const ir::Model& model) {
    ir::Export exported = ir::exportModel(model);
    onnx::GraphProto& graph = *exported.proto.mutable_graph();
    std::int64_t bytes = 0;
    for (const auto& [place, payload] : exported.payloads.initializers)
        bytes += static_cast<std::int64_t>(payload.bytes.size());
    for (const auto& [place, payload] : exported.payloads.attributes)
        bytes += static_cast<std::int64_t>(payload.bytes.size());
    for (int i = 0; i < graph.initializer_size(); ++i) {
        const std::size_t size = graph.initializer(i).ByteSizeLong();
        const bool isShared = !exported.payloads.initializers.contains(i) &&
                              size < kSharedBytes + graph.initializer(i).name().size();
        if (!isShared) bytes += static_cast<std::int64_t>(size);
    }
    for (const onnx::NodeProto& node : graph.node()) bytes += static_cast<std::int64_t>(node.ByteSizeLong());
    return bytes;
}

/// What choices take in the file. Weights that look alike take the same.
class Sizes {
  public:
    Sizes(const ir::Model& model, const std::string& pass)
        : model_(model), pass_(pass), before_(partBytes(model)) {}

    std::int64_t of(const TargetWeight& weight, const WeightStorage& storage) {
        const Key key{&storage, weight.constant->constant()->shape(), weight.inAxis, weight.sites.size(),
                      std::string(weight.sites.front()->node->opType())};
        const auto known = known_.find(key);
        if (known != known_.end()) return known->second;
        const StoragePlan plan = storage.plan(weight);
        const QuantizedWeights placeholder = placeholderWeights(plan.layout, storage.rule(weight));
        return known_[key] = added(weight, [&](ir::Edit& edit, const TargetWeight& copy, PassReport& report) {
                   storage.store(edit, copy, placeholder, report);
               });
    }

    std::int64_t of(const TargetWeight& weight, const EncodedTable& table) const {
        return added(weight, [&](ir::Edit& edit, const TargetWeight& copy, PassReport& report) {
            storeTable(edit, copy, table, report);
        });
    }

  private:
    using Key = std::tuple<const WeightStorage*, Shape, std::size_t, std::size_t, std::string>;

    template <class Store>
    std::int64_t added(const TargetWeight& weight, const Store& store) const {
        ir::Model copy = model_.clone();
        // The weight's sites in the copy.
        std::vector<analysis::Site> sites;
        for (const analysis::Site* site : weight.sites) {
            sites.push_back(*site);
            sites.back().node = copy.graph().nodes()[site->node->position()].get();
            sites.back().input = copy.graph().find(site->input->name());
            sites.back().output = copy.graph().find(site->output->name());
        }
        TargetWeight there = weight;
        there.constant = copy.graph().find(weight.constant->name());
        for (std::size_t i = 0; i < sites.size(); ++i) there.sites[i] = &sites[i];
        PassReport unused;
        ir::Edit edit(copy, pass_);
        store(edit, there, unused);
        edit.commit();
        return partBytes(copy) - before_;
    }

    const ir::Model& model_;
    const std::string& pass_;
    std::int64_t before_;
    std::map<Key, std::int64_t> known_;
};

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
          sizes_(model, pass),
          edited_(model.clone()) {
        if (samples != nullptr) judge_.emplace(model, floatOutputs(model), samples->damages, context);
        for (const std::int64_t bits : space.bits)
            for (const std::int64_t group : space.groupSizes) {
                StorageOptions options = space.storage;
                options.bits = bits;
                options.groupSize = group;
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
        const auto values = weight.constant->constant()->data<float>();
        if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }))
            return skip(report_, weight, kNotFinite);
        WeightChoices choices{&weight, nullptr, {{}}};
        if (space_.storage.format != WeightFormat::contrib && tieredRefusal(weight).empty())
            addRows(choices);
        else
            addGroups(choices);
        if (choices.choices.size() > 1) result_.push_back(std::move(choices));
    }

    void addRows(WeightChoices& choices) {
        const TargetWeight& weight = *choices.weight;
        choices.table = std::make_unique<TieredQuantizer>(
            context_, weight, tableUsage(model_, context_, pass_, weight, report_), tableFormats());
        double smallest = HUGE_VAL;
        for (const double bits : kRowBudgets) {
            const auto plan = choices.table->plan(
                bits / 8 * static_cast<double>(weight.constant->constant()->size()), space_.tables);
            if (!plan || plan->bytes >= smallest) continue;
            smallest = plan->bytes;
            StorageChoice choice;
            choice.bytes = sizes_.of(weight, choices.table->placeholder(*plan));
            choice.error = plan->error;
            choice.rows = plan;
            choices.choices.push_back(std::move(choice));
        }
    }

    void addGroups(WeightChoices& choices) {
        const TargetWeight& weight = *choices.weight;
        std::string refusal;
        std::vector<std::tuple<int, std::int64_t>> seen;
        for (const auto& storage : storages_) {
            const StoragePlan plan = storage->plan(weight);
            const std::tuple<int, std::int64_t> form{storage->rule().bits, plan.layout.block};
            if (!plan.refusal.empty()) refusal = plan.refusal;
            // Groups as long as the axis are one a channel.
            if (!plan.refusal.empty() || std::find(seen.begin(), seen.end(), form) != seen.end()) continue;
            seen.push_back(form);
            StorageChoice choice;
            choice.storage = storage;
            choice.bytes = sizes_.of(weight, *storage);
            choices.choices.push_back(std::move(choice));
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
        const double factor = samples_ == nullptr ? 1 : damageFactor(of, stage);
        for (StorageChoice& choice : of.choices) choice.damage = factor * choice.error;
        context_.progress().step(0);
    }

    /// The choice that is put into the model. A table's rows are all stored alike: divided by their use, those
    /// that the samples read would be better off than others, and the damage would seem small.
    StorageChoice probeOf(const WeightChoices& of) const {
        if (of.table) {
            const auto values = static_cast<double>(of.weight->constant->constant()->size());
            StorageChoice alike;
            alike.rows = of.table->plan(kProbeBits / 8 * values, 1);
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
    Sizes sizes_;
    ir::Model edited_;  ///< the model with at most one weight replaced
    std::optional<OutputJudge> judge_;  ///< by the samples for damages
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
