// Drops whole layers or their sublayers: what read a layer's output reads its input instead, or a linear map of it,
// and everything that only that layer needed goes, its key-value cache inputs and outputs included.
//
//   x → layer 3 → y → layer 4      becomes      x → layer 4      or      x → x·P + p → layer 4      or      x → x + p → layer 4
//
// With calibration data the layers go whose loss, their maps in place, changes the model's outputs least, one after
// another; the maps are least squares against the original's values (layer_choice.h). Works for pre-norm blocks (the
// residual stream) and post-norm blocks (from norm to norm). Not handled: a block whose input and output are not one
// residual stream (refused with the reason).
//
// Sources: Sajjad et al. 2023, "On the effect of dropping layers of pre-trained Transformer models"; Men et al. 2024,
// "ShortGPT" (block influence: 1 − cosine of a block's input and output on calibration data); Gromov et al. 2024, "The
// Unreasonable Ineffectiveness of the Deeper Layers" (angular distance of stretches); linear maps in the place of layers:
// Din et al. 2024, "Jump to Conclusions: Short-Cutting Transformers with Linear Transformations".

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>

#include "lib/calibration/similarity.h"
#include "lib/support/error.h"
#include "passes/drop_layers/layer_choice.h"
#include "passes/passes.h"
#include "passes/support/compensation.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "drop-layers";

constexpr double kAnyError = std::numeric_limits<double>::infinity();

enum class Criterion { automatic, outputError, blockInfluence, angularDistance, last };

struct Options {
    std::vector<std::int64_t> layers;
    std::optional<std::int64_t> count;
    std::optional<double> ratio, maxError;
    LayerPart part = LayerPart::block;
    Criterion criterion = Criterion::automatic;
    std::optional<bool> patch;
    Patch form = Patch::linear;
    Refit refit = Refit::all;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("layers", &Options::layers,
                "layers to drop by number, from 0, as 'tcompress inspect' counts them")
        .option("count", &Options::count, "number of layers to drop, chosen by the criterion")
        .range(1, 1 << 16)
        .option("ratio", &Options::ratio, "share of the layers to drop, at least one, chosen by the criterion")
        .range(0.0, 1.0)
        .option("max_error", &Options::maxError,
                "drop whatever is negligible: one layer after another, as long as the model's outputs on held-back calibration samples "
                "stay within this relative error")
        .range(0.0, 1.0)
        .choice("part", &Options::part,
                {{"layer", LayerPart::block},
                 {"attention", LayerPart::attention},
                 {"feed-forward", LayerPart::feedForward},
                 {"branch", LayerPart::branch}},
                "what is dropped: whole layers, or only the attention or the feed-forward sublayer of them; branch: sublayers of both "
                "kinds, counted in the order of the graph")
        .choice("criterion", &Options::criterion,
                {{"auto", Criterion::automatic},
                 {"output-error", Criterion::outputError},
                 {"block-influence", Criterion::blockInfluence},
                 {"angular-distance", Criterion::angularDistance},
                 {"last", Criterion::last}},
                "how layers are chosen: output-error drops, one after another, the layer without which the model's "
                "outputs change least on calibration data; block-influence the layers whose output is nearest to "
                "their input; angular-distance the consecutive layers (as many as go) whose last output has the "
                "smallest angle to their first input; last the last ones. auto takes output-error when there are "
                "calibration data")
        .choice("refit", &Options::refit, {{"all", Refit::all}, {"readers", Refit::readers}},
                "with patch: fit every linear layer that reads the residual stream behind the first that is dropped "
                "again, to what it gave in the original model; readers: the map alone")
        .option("patch", &Options::patch,
                "put something fitted on the calibration data in the place of what is dropped; left out: when there are calibration "
                "data")
        .choice("patch_form", &Options::form, {{"linear", Patch::linear}, {"bias", Patch::bias}},
                "what takes the place: a linear map of the input, or the input and a constant, the mean of what was added, which costs "
                "nothing");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const int given = int{!options.layers.empty()} + int{options.count.has_value()} + int{options.ratio.has_value()} +
                      int{options.maxError.has_value()};
    if (given != 1)
        diagnostics.add(pointer, fmt::format("drop-layers needs exactly one of layers (numbers), count, ratio and max_error; {} are given",
                                             given));
    if (options.maxError && options.criterion != Criterion::automatic && options.criterion != Criterion::outputError)
        diagnostics.add(pointer + "/criterion", "max_error goes by the error of the outputs");
}

class DropLayers : public pipeline::Pass {
  public:
    explicit DropLayers(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<LayerSpan> spans = layerSpans(context.view(model), options_.part);
        const bool patches = options_.patch.value_or(context.hasCalibration());
        data::Split samples;
        if (patches || needsData(context))
            samples = context.calibrationSplit(
                kPass, patches ? "patch fits a linear map" : "the criterion compares values of the model",
                kHeldBackShare);
        const Patch patch = patches ? options_.form : Patch::none;
        const std::set<std::size_t> dropped = choose(model, context, spans, patch, samples, report);
        if (dropped.empty()) return report;
        const std::vector<LayerRun> runs = runsOf(spans, dropped);
        const ir::Model reference = patches && options_.refit == Refit::all
                                        ? originalOf(model, context, samples)
                                        : model.clone();
        cutOutRuns(model, runs, patch, samples, kPass, context.environment(), report);
        if (patches && options_.refit == Refit::all) {
            const ir::Value* input = model.graph().find(runs.front().input);
            const ir::Node* producer = input == nullptr ? nullptr : input->producer();
            refitBehind(model, reference, context.view(model), producer == nullptr ? 0 : producer->position(), samples,
                        context.environment(), report);
        }
        return report;
    }

  private:
    /// What layers are fitted to again: judged by the weights that can be.
    static ir::Model originalOf(const ir::Model& model, const PassContext& context, const data::Split& samples) {
        PassReport unused;
        const TransformerView& view = context.view(model);
        std::vector<EvidenceQuery> queries;
        for (const TargetWeight& weight : targetWeights(view, {}, unused))
            if (!weight.hasEmbedding() && refitRefusal(weight).empty())
                for (const EvidenceQuery& query : queriesOf(weight, view))
                    if (context.original() != nullptr && hasTarget(*context.original(), query))
                        queries.push_back(query);
        return referenceFor(model, queries, samples.fit, context);
    }

    Criterion criterion(const PassContext& context) const {
        if (options_.criterion != Criterion::automatic) return options_.criterion;
        return context.hasCalibration() ? Criterion::outputError : Criterion::last;
    }
    bool needsData(const PassContext& context) const {
        return options_.maxError.has_value() || (options_.layers.empty() && criterion(context) != Criterion::last);
    }

    std::set<std::size_t> choose(const ir::Model& model, const PassContext& context,
                                 const std::vector<LayerSpan>& spans, Patch patch, const data::Split& samples,
                                 PassReport& report) const {
        const auto layers = static_cast<std::int64_t>(spans.size());
        if (layers == 0)
            throw PassError(fmt::format(
                "{}: no layer was recognised in this model; 'tcompress inspect' says why", kPass));
        if (!options_.layers.empty()) return named(spans);
        if (options_.maxError) {
            const std::int64_t most = std::min(layers - 1, std::ssize(droppable(spans, report)));
            return byOutputError(model, context, spans, patch, samples, most, *options_.maxError, report);
        }
        const std::int64_t count =
            options_.count.value_or(std::max<std::int64_t>(
                1, static_cast<std::int64_t>(options_.ratio.value_or(0) * static_cast<double>(layers) + 1e-9)));
        requireOneStays(count, layers);
        const std::vector<std::size_t> candidates = droppable(spans, report);
        if (std::ssize(candidates) < count)
            throw PassError(fmt::format("{}: asked to drop {} layers, but only {} can be dropped", kPass, count,
                                        candidates.size()));
        if (criterion(context) == Criterion::outputError)
            return byOutputError(model, context, spans, patch, samples, count, kAnyError, report);
        if (criterion(context) == Criterion::angularDistance)
            return nearestStretch(model, context, spans, static_cast<std::size_t>(count), report);
        std::vector<std::size_t> order = candidates;
        if (criterion(context) == Criterion::blockInfluence) {
            sortByInfluence(order, model, context, spans, report);
        } else {
            report.notes.push_back(options_.criterion == Criterion::last
                                       ? "the last layers are dropped"
                                       : "the last layers are dropped, without calibration data");
            std::reverse(order.begin(), order.end());
        }
        return {order.begin(), order.begin() + count};
    }

    static void requireOneStays(std::int64_t count, std::int64_t layers) {
        if (count >= layers)
            throw PassError(
                fmt::format("{}: asked to drop {} of {} layers; one must stay", kPass, count, layers));
    }

    std::set<std::size_t> named(const std::vector<LayerSpan>& spans) const {
        const auto layers = static_cast<std::int64_t>(spans.size());
        std::set<std::size_t> chosen;
        for (const std::int64_t layer : options_.layers) {
            if (layer < 0 || layer >= layers)
                throw PassError(fmt::format("{}: layers names {}, but the model has {} layers (0 to {})", kPass,
                                            layer, layers, layers - 1));
            const LayerSpan& span = spans[static_cast<std::size_t>(layer)];
            if (!span.isDroppable())
                throw PassError(fmt::format(
                    "{}: {} does not begin and end on the residual stream and cannot be dropped", kPass,
                    span.name));
            chosen.insert(static_cast<std::size_t>(layer));
        }
        requireOneStays(std::ssize(chosen), layers);
        return chosen;
    }

    static std::vector<std::size_t> droppable(const std::vector<LayerSpan>& spans, PassReport& report) {
        std::vector<std::size_t> layers;
        for (std::size_t i = 0; i < spans.size(); ++i) {
            if (spans[i].isDroppable())
                layers.push_back(i);
            else
                report.skipped.push_back(
                    {spans[i].name, "it does not begin and end on the residual stream by itself"});
        }
        return layers;
    }

    static std::set<std::size_t> byOutputError(const ir::Model& model, const PassContext& context,
                                               const std::vector<LayerSpan>& spans, Patch patch,
                                               const data::Split& samples, std::int64_t count, double maxError,
                                               PassReport& report) {
        std::set<std::size_t> dropped;
        while (std::ssize(dropped) < count) {
            std::vector<double> errors;
            const std::size_t next =
                leastMissed(model, spans, dropped, patch, samples, context.environment(), errors);
            // Errors are squared.
            if (!(errors[next] <= maxError * maxError)) {
                report.skipped.push_back(
                    {spans[next].name, fmt::format("the outputs, which miss it least, would be {:.4f} off without it (max_error {})",
                                                   std::sqrt(errors[next]), maxError)});
                break;
            }
            dropped.insert(next);
            std::vector<std::string> ranking;
            for (std::size_t i = 0; i < errors.size(); ++i)
                if (std::isfinite(errors[i])) ranking.push_back(fmt::format("{}: {:.4f}", i, errors[i]));
            report.notes.push_back(fmt::format("squared error of the outputs without {}: {}",
                                               dropped.size() == 1 ? "each layer" : "one more layer",
                                               fmt::join(ranking, ", ")));
        }
        return dropped;
    }

    /// `count` layers in a row, each beginning where the one before ends.
    static std::set<std::size_t> nearestStretch(const ir::Model& model, const PassContext& context,
                                                const std::vector<LayerSpan>& layers, std::size_t count,
                                                PassReport& report) {
        std::vector<calibration::Span> spans;
        std::vector<std::size_t> firsts;
        for (std::size_t first = 0; first + count <= layers.size(); ++first) {
            bool joined = layers[first].isDroppable();
            for (std::size_t i = first + 1; i < first + count; ++i)
                joined = joined && layers[i].isDroppable() && layers[i].input == layers[i - 1].output;
            if (!joined) continue;
            spans.push_back({layers[first].input, layers[first + count - 1].output});
            firsts.push_back(first);
        }
        if (spans.empty())
            throw PassError(fmt::format("{}: no {} consecutive layers can be dropped; take criterion output-error",
                                        kPass, count));
        const std::vector<double> influence = calibration::blockInfluence(
            model,
            context.calibration(kPass, "criterion angular-distance compares the layers' inputs and outputs"),
            spans, context.progress(), context.resources());
        std::vector<std::string> ranking;
        for (std::size_t i = 0; i < spans.size(); ++i)
            ranking.push_back(fmt::format("from {}: {:.4f}", firsts[i],
                                          std::acos(std::clamp(1 - influence[i], -1.0, 1.0)) / M_PI));
        report.notes.push_back(
            fmt::format("angular distance over {} layers: {}", count, fmt::join(ranking, ", ")));
        const std::size_t best = firsts[static_cast<std::size_t>(
            std::min_element(influence.begin(), influence.end()) - influence.begin())];
        std::set<std::size_t> chosen;
        for (std::size_t i = best; i < best + count; ++i) chosen.insert(i);
        return chosen;
    }

    /// Least influential first, ties by number.
    static void sortByInfluence(std::vector<std::size_t>& layers, const ir::Model& model,
                                const PassContext& context, const std::vector<LayerSpan>& layerSpans,
                                PassReport& report) {
        std::vector<calibration::Span> spans;
        for (const std::size_t layer : layers)
            spans.push_back({layerSpans[layer].input, layerSpans[layer].output});
        const std::vector<double> influence = calibration::blockInfluence(
            model,
            context.calibration(kPass, "criterion block-influence compares each layer's input and output"),
            spans, context.progress(), context.resources());
        std::map<std::size_t, double> byLayer;
        std::vector<std::string> ranking;
        for (std::size_t i = 0; i < layers.size(); ++i) {
            byLayer[layers[i]] = influence[i];
            ranking.push_back(fmt::format("{}: {:.4f}", layers[i], influence[i]));
        }
        report.notes.push_back(fmt::format("block influence by layer: {}", fmt::join(ranking, ", ")));
        std::stable_sort(layers.begin(), layers.end(),
                         [&](std::size_t a, std::size_t b) { return byLayer[a] < byLayer[b]; });
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo dropLayers() {
    pipeline::PassInfo info;
    info.type = "drop-layers";
    info.summary = "drop whole layers or branches, by number or by what the outputs make of it; a linear map takes their place";
    info.details =
        "Connects what read a layer's output to its input, or to a linear map of it that is fitted on calibration data, "
        "and removes all that only that layer needed, its key-value cache inputs and outputs included. Pre-norm and "
        "post-norm models; whole layers or sublayers. With max_error all goes that the outputs hardly miss.";
    info.paper =
        "Men et al. 2024, ShortGPT: Layers in Large Language Models are More Redundant Than You Expect";
    info.data = pipeline::DataNeed::optional;
    info.defaultMethod = true;
    bindOptions<DropLayers, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
