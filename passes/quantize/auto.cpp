// Mixed precision under a budget: each weight gets the bits, the group size and, for tables, the division of
// rows that its damage to the model's outputs is worth.
//
//   choices of each weight  →  bytes, damage (storage_choices.h)  →  exact knapsack (choice_knapsack.h)
//                           →  predicted file, repaired until it fits (mixed_precision.h)  →  GPTQ in turn
//
// The budget is the size of the file, bits a weight, or a drop of accuracy on held-back calibration samples:
// then sizes are bisected for the smallest that holds.
//
// Source: Dong et al. 2020, "HAWQ-V2"; Yao et al. 2021, "HAWQ-V3: Dyadic Neural Network Quantization" (bits by
// integer programming).
//
// Not handled: what quantize/weight-only does not handle.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "lib/data/calibration_data.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/quantize/mixed/mixed_precision.h"
#include "passes/quantize/mixed/size_planner.h"
#include "passes/quantize/mixed/storage_choices.h"
#include "passes/quantize/solver/gptq_run.h"
#include "passes/support/accuracy_drop.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/auto";

/// Samples that damages are measured on: at most, and of those held back at least.
constexpr std::int64_t kDamageSamples = 128;
constexpr std::int64_t kFewestHeldBack = 16;
/// Sizes that are tried for an accuracy.
constexpr int kBisections = 7;

struct Options : StorageOptions {
    std::optional<std::int64_t> maxSizeBytes;
    std::optional<double> bitsPerWeight;
    std::optional<double> maxAccuracyDrop;
    std::vector<std::int64_t> widths;
    std::vector<std::int64_t> groupSizes = ChoiceSpace{}.groupSizes;
    std::int64_t tables = ChoiceSpace{}.tables;
    std::optional<DType> chosenScaleType;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("max_size_bytes", &Options::maxSizeBytes,
                "bytes of the file that is written, all included, when no later pass changes it")
        .range(1, 1e13)
        .option("bits_per_weight", &Options::bitsPerWeight,
                "bits a weight on average over the weights that can be stored narrower, with scales, "
                "codebooks and the nodes that read them")
        .range(1, 32)
        .option("max_accuracy_drop", &Options::maxAccuracyDrop,
                "accuracy that may be lost on half of the calibration samples, which is held back and must "
                "have labels: the smallest file that keeps to it")
        .range(0, 1)
        .option("bits", &Options::widths,
                "bits to choose from; default: 8, 6, 5, 4, 3 and 2, or of these what the format has")
        .range(1, 8)
        .option("group_sizes", &Options::groupSizes,
                "weights that share a scale, to choose from: 16 to 4096; -1: one scale per output channel")
        .range(kPerChannel, 4096)
        .option("tables", &Options::tables,
                "formats that the rows of an embedding table of 4096 rows or more are divided among at most")
        .range(1, 4)
        .choice("scale_type", &Options::chosenScaleType,
                {{"auto", std::nullopt},
                 {"float16", DType::float16},
                 {"float32", DType::float32},
                 {"uint8", DType::uint8}},
                "what scales are stored in; uint8: as codes with a float32 unit for each 256 of them (double "
                "quantization; embedding tables keep float16); auto: float16, or uint8 where the format has it and "
                "a weight takes fewer bytes so");
    addFormOptions(table);
    return table;
}

std::vector<std::int64_t> widths(const Options& options) {
    if (!options.widths.empty()) return options.widths;
    const bool isPacked = options.format == WeightFormat::automatic || options.format == WeightFormat::packed;
    return isPacked ? ChoiceSpace{}.bits : std::vector<std::int64_t>{8, 4};
}

class QuantizeAuto : public pipeline::Pass {
  public:
    explicit QuantizeAuto(const Options& options) : options_(options) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = anyStorage().weights(model, context, report);
        std::optional<ChoiceSamples> samples;
        if (options_.maxAccuracyDrop || context.hasCalibration()) samples = this->samples(context);
        const std::vector<WeightChoices> items =
            measureChoices(model, context, kPass, space(), weights, samples ? &*samples : nullptr, report);
        if (items.empty()) return report;
        const MixedPrecision mixed(model, context, kPass, items, samples ? &samples->errors : nullptr);
        SizePlanner planner(mixed, items);
        Outcome outcome = options_.maxAccuracyDrop
                              ? smallestThatHolds(model, mixed, planner, *samples, items)
                              : withinBudget(mixed, planner, items);
        describe(outcome, items, report);
        model = std::move(outcome.model);
        report.changed = std::move(outcome.report.changed);
        for (auto& note : outcome.report.notes) report.notes.push_back(std::move(note));
        return report;
    }

  private:
    struct Outcome {
        SizePlan plan;
        ir::Model model;
        PassReport report;
        std::int64_t bytes = 0;
    };

    /// What decides about the opset: blocks, where there are any.
    WeightStorage anyStorage() const {
        const std::vector<std::int64_t> bits = widths(options_);
        StorageOptions storage = options_;
        storage.bits = std::find(bits.begin(), bits.end(), 4) != bits.end() ? 4 : 8;
        storage.groupSize = options_.groupSizes.front();
        return {storage, kPass};
    }

    ChoiceSpace space() const {
        ChoiceSpace space;
        space.bits = widths(options_);
        space.groupSizes = options_.groupSizes;
        space.tables = options_.tables;
        space.storage = options_;
        if (options_.chosenScaleType) space.scaleTypes = {*options_.chosenScaleType};
        return space;
    }

    ChoiceSamples samples(const PassContext& context) const {
        constexpr const char* kWhy = "the damage of rounding is measured";
        if (!options_.maxAccuracyDrop) {
            ChoiceSamples samples{context.calibrationSplit(kPass, kWhy, kGptqHeldBack), {},
                                  context.givenCalibration(kPass, kWhy)};
            const data::Dataset& held = samples.errors.heldBack;
            // Errors are measured on rows that were held back; so are damages, where there are enough.
            const bool enough = held.sampleCount() >= kFewestHeldBack;
            samples.damages = (enough ? held : samples.lookUps).head(kDamageSamples);
            return samples;
        }
        ChoiceSamples samples{judgingSplit(context, kPass, kWhy, "max_size_bytes or bits_per_weight"), {}, {}};
        samples.damages = samples.errors.fit.head(kDamageSamples);
        samples.lookUps = samples.errors.fit;
        return samples;
    }

    std::int64_t budgetBytes(SizePlanner& planner, const std::vector<WeightChoices>& items) const {
        const std::int64_t whole = planner.largestBytes();
        std::int64_t budget = std::min(whole, options_.maxSizeBytes.value_or(whole));
        if (!options_.bitsPerWeight) return budget;
        const auto narrower = static_cast<std::int64_t>(
            std::floor((32 - *options_.bitsPerWeight) / 8 * static_cast<double>(valueCount(items))));
        return std::min(budget, whole - narrower);
    }

    static std::int64_t valueCount(const std::vector<WeightChoices>& items) {
        std::int64_t values = 0;
        for (const WeightChoices& item : items) values += item.weight->constant->constant()->size();
        return values;
    }

    [[noreturn]] void refuseBudget(std::int64_t budget, SizePlanner& planner, const std::vector<WeightChoices>& items) const {
        const std::int64_t least = planner.smallestBytes();
        std::string own;
        if (options_.bitsPerWeight) {
            // Rounded up to what would have been enough.
            const double bits = 32 - 8 * static_cast<double>(planner.largestBytes() - least) / static_cast<double>(valueCount(items));
            own = fmt::format(", {:.2f} bits a weight with the nodes that read them", std::ceil(bits * 100) / 100);
        }
        throw PassError(fmt::format("{}: {} bytes are too few; the narrowest choices make {} bytes{}", kPass, budget, least, own));
    }

    Outcome withinBudget(const MixedPrecision& mixed, SizePlanner& planner,
                         const std::vector<WeightChoices>& items) const {
        const std::int64_t budget = budgetBytes(planner, items);
        std::int64_t allowed = budget;
        while (true) {
            Outcome outcome = planned(mixed, planner, items, allowed, budget);
            if (outcome.bytes <= budget) return outcome;
            allowed -= outcome.bytes - budget;
        }
    }

    Outcome planned(const MixedPrecision& mixed, SizePlanner& planner, const std::vector<WeightChoices>& items,
                    std::int64_t allowed, std::int64_t budget) const {
        const auto plan = planner.within(allowed);
        if (!plan) refuseBudget(budget, planner, items);
        Outcome outcome{*plan, {}, {}, 0};
        outcome.model = mixed.quantized(plan->selection.chosen, outcome.report);
        outcome.bytes = fileBytes(outcome.model);
        return outcome;
    }

    Outcome smallestThatHolds(const ir::Model& model, const MixedPrecision& mixed, SizePlanner& planner,
                              const ChoiceSamples& samples, const std::vector<WeightChoices>& items) const {
        std::int64_t high = budgetBytes(planner, items), low = std::min(high, planner.smallestBytes());
        std::optional<Outcome> best;
        double bestDrop = 0;
        const auto tryAt = [&](std::int64_t bytes) {
            Outcome outcome = planned(mixed, planner, items, bytes, bytes);
            const double drop = accuracyDrop(model, outcome.model, samples.errors.heldBack, kPass);
            if (drop > *options_.maxAccuracyDrop) return false;
            bestDrop = drop;
            best = std::move(outcome);
            return true;
        };
        if (!tryAt(low)) {
            if (!tryAt(high))
                throw PassError(fmt::format("{}: within {} bytes the accuracy drops by more than {}", kPass, high,
                                            *options_.maxAccuracyDrop));
            for (int i = 0; i < kBisections; ++i) {
                const auto middle = static_cast<std::int64_t>(
                    std::sqrt(static_cast<double>(low)) * std::sqrt(static_cast<double>(high)));
                (tryAt(middle) ? high : low) = middle;
            }
        }
        best->report.notes.push_back(fmt::format("accuracy on {} held-back samples drops by {:.4f}",
                                                 samples.errors.heldBack.sampleCount(), bestDrop));
        return std::move(*best);
    }

    static void describe(const Outcome& outcome, const std::vector<WeightChoices>& items, PassReport& report) {
        std::size_t asItIs = 0;
        std::int64_t values = 0;
        for (std::size_t i = 0; i < items.size(); ++i) {
            values += items[i].weight->constant->constant()->size();
            if (!items[i].choices[outcome.plan.selection.chosen[i]].staysAsItIs()) continue;
            ++asItIs;
            skip(report, *items[i].weight, "float32 is what its damage is worth within the budget");
        }
        report.notes.push_back(fmt::format(
            "{} weights ({} values), {} left in float32; file predicted at {} bytes, is {} bytes", items.size(),
            values, asItIs, outcome.plan.bytes, outcome.bytes));
        const KnapsackSelection& selection = outcome.plan.selection;
        report.notes.push_back(fmt::format(
            "predicted damage {:.2g}; no choice within the budget is predicted below {:.2g}", selection.cost,
            selection.bound));
    }

    Options options_;
};

void check(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    if (!options.maxSizeBytes && !options.bitsPerWeight && !options.maxAccuracyDrop)
        diagnostics.add(pointer, "needs a budget: max_size_bytes, bits_per_weight or max_accuracy_drop");
    if (options.groupSizes.empty()) diagnostics.add(pointer + "/group_sizes", "no group sizes to choose from");
    for (const std::int64_t bits : widths(options))
        for (const std::int64_t group : options.groupSizes) {
            StorageOptions storage = options;
            storage.bits = bits;
            storage.groupSize = group;
            storage.scaleType = options.chosenScaleType.value_or(DType::float16);
            Diagnostics own;
            checkStorageOptions(storage, pointer, own);
            if (own.empty()) continue;
            diagnostics.add(own.entries().front().place, own.entries().front().message);
            return;
        }
}

}  // namespace

pipeline::PassInfo quantizeAuto() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "auto";
    info.summary = "mixed precision: bits, groups and table formats chosen for each weight within a budget";
    info.details =
        "Predicts for each weight and each way to store it what that does to the model's outputs on calibration "
        "data, and chooses by an exact knapsack what does least within max_size_bytes or bits_per_weight; with "
        "max_accuracy_drop, the smallest file that keeps the accuracy on held-back samples. Layers are then "
        "rounded by GPTQ in turn, rows of embedding tables divided by their use. Without calibration data every "
        "weight counts alike and is rounded by HQQ.";
    info.paper = "Yao et al. 2021, HAWQ-V3: Dyadic Neural Network Quantization";
    info.data = pipeline::DataNeed::optional;
    bindOptions<QuantizeAuto>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(check));
    return info;
}

}  // namespace tcompress::passes
