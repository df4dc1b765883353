// Layers share their weights: groups of feed-forward or of attention layers read the same matrices, which are stored once.
//
//   y₂ = act(x₂·U₂)·D₂,  y₅ = act(x₅·U₅)·D₅   →   y₂ = (act(x₂·U) ∘ s₂)·D,  y₅ = (act(x₅·U) ∘ s₅)·D
//
// Attention is the same with queries, keys and values for U, heads for neurons and the output projection for D. Layers that do
// nearly the same go together (layer_groups.h); the shared weights and a scale of each layer's own for every input of D are
// solved for on calibration data (shared_branch.h); biases of D and normalizations stay each layer's own. Without compensation the
// weights are averaged as they are. A layer computes as much as before: the file shrinks, not the time. Not handled: weights that
// are shared already, quantized ones, attention with a bias of each head's own.
//
// Sources: Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations"; matching before
// averaging: Singh and Jaggi 2020, "Model Fusion via Optimal Transport"; Ainsworth et al. 2023, "Git Re-Basin".

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>

#include "lib/analysis/targets.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/share/layer_groups.h"
#include "passes/share/shared_branch.h"
#include "passes/support/compensation.h"
#include "passes/support/index_ranges.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

/// What shares its weights, and what messages call it.
struct Kind {
    BranchPart part;
    const char* pass;
    const char* layer;
    const char* units;
};
constexpr Kind kFeedForward{BranchPart::feedForward, "share-parameters", "feed-forward", "neurons"};
constexpr Kind kAttention{BranchPart::attention, "share-parameters/attention", "attention", "heads"};

/// Distances need no more: they only choose between layers.
constexpr std::int64_t kDistanceSamples = 32;

enum class Grouping { automatic, distance, neighbours };

struct Options {
    std::int64_t groupSize = 2;
    std::vector<std::string> groups;
    Grouping grouping = Grouping::automatic;
    std::optional<bool> compensate;
    std::int64_t rounds = 2;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable(const Kind& kind) {
    OptionTable<Options> table;
    table.option("group_size", &Options::groupSize, "layers that share one set of weights")
        .range(2, 1024)
        .option("groups", &Options::groups,
                fmt::format("layers that share, by number from 0 as 'tcompress inspect' counts {} layers, such as \"0,3\"; left out: "
                            "chosen by grouping",
                            kind.layer))
        .choice("grouping", &Options::grouping,
                {{"auto", Grouping::automatic}, {"distance", Grouping::distance}, {"neighbours", Grouping::neighbours}},
                "how layers are brought together: distance takes those whose outputs change least when they get each "
                "other's weights, on calibration data; neighbours those that follow each other. auto takes distance when "
                "there are calibration data")
        .option("compensate", &Options::compensate,
                fmt::format("choose the shared {} and solve for their weights on calibration data; false averages the weights as they "
                            "are; left out: when there are calibration data",
                            kind.units))
        .option("rounds", &Options::rounds, "times that all groups are solved for, each on what the others are by then")
        .range(1, 16)
        .option("targets", &Options::targets, "layers to work on, by patterns over their down projection")
        .option("ignore", &Options::ignore, "layers to leave alone, by patterns over their down projection");
    return table;
}

/// "0,3" or "0-2,5" as numbers; nullopt when it is something else.
std::optional<std::vector<std::int64_t>> parseNumbers(std::string_view text) {
    std::vector<std::int64_t> numbers;
    while (true) {
        const std::size_t comma = text.find(',');
        const auto range = parseIndexRange(text.substr(0, comma));
        if (!range) return std::nullopt;
        numbers.insert(numbers.end(), range->begin(), range->end());
        if (comma == std::string_view::npos) return numbers;
        text.remove_prefix(comma + 1);
    }
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    std::set<std::int64_t> seen;
    for (const std::string& group : options.groups) {
        const auto numbers = parseNumbers(group);
        if (!numbers || numbers->size() < 2) {
            diagnostics.add(pointer + "/groups",
                            fmt::format("'{}' is no group: two numbers of layers or more, such as \"0,3\"", group));
            continue;
        }
        for (const std::int64_t number : *numbers)
            if (!seen.insert(number).second)
                diagnostics.add(pointer + "/groups", fmt::format("layer {} is named twice", number));
    }
    if (options.compensate == false && options.grouping == Grouping::distance)
        diagnostics.add(pointer + "/grouping", "distance needs calibration data, which compensate false does without");
}

class ShareParameters : public pipeline::Pass {
  public:
    ShareParameters(Options options, Kind kind) : options_(std::move(options)), kind_(kind) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        if (downs(context.view(model)).empty())
            throw PassError(fmt::format("{}: no {} layer was recognised in this model; 'tcompress inspect' says why", kind_.pass, kind_.layer));
        // Biases are written one by one: equal ones that an exporter merged come apart.
        analysis::unshareVectors(model);
        const TransformerView& view = context.view(model);
        const ir::Model reference = model.clone();
        PassReport report, unusable;
        const std::vector<TargetWeight> weights = targetWeights(view, {}, unusable);
        const std::vector<BranchWeights> layers = branchWeights(view, kind_.part, weights, chosen(view), report);
        std::vector<SharedBranch> shared;
        for (const LayerGroup& group : groupsOf(model, context, view, layers, report)) {
            std::vector<BranchWeights> members;
            for (const std::size_t layer : group) members.push_back(layers[layer]);
            if (members.size() > 1)
                shared.emplace_back(model, reference, std::move(members), kind_.units);
            else
                report.skipped.push_back({members.front().name, "no layer is left to share its weights with"});
        }
        if (compensates(context))
            fit(shared, context);
        else
            for (SharedBranch& group : shared) group.average();
        ir::Edit edit(model, kind_.pass);
        for (const SharedBranch& group : shared) {
            group.share(edit);
            describe(group, report);
        }
        if (!edit.empty()) edit.commit();
        return report;
    }

  private:
    bool compensates(const PassContext& context) const { return options_.compensate.value_or(context.hasCalibration()); }

    /// Of each layer the projections that write to the stream.
    std::vector<const std::vector<std::size_t>*> downs(const TransformerView& view) const {
        std::vector<const std::vector<std::size_t>*> result;
        if (kind_.part == BranchPart::attention)
            for (const auto& layer : view.attention) result.push_back(&layer.o);
        else
            for (const auto& layer : view.feedForward) result.push_back(&layer.down);
        return result;
    }

    /// Layers that the patterns leave.
    std::vector<std::size_t> chosen(const TransformerView& view) const {
        const std::vector<std::size_t> selected = analysis::SitePatterns(options_.targets, options_.ignore).select(view);
        const auto isSelected = [&](std::size_t site) { return std::find(selected.begin(), selected.end(), site) != selected.end(); };
        const std::vector<const std::vector<std::size_t>*> all = downs(view);
        std::vector<std::size_t> layers;
        for (std::size_t i = 0; i < all.size(); ++i)
            if (std::any_of(all[i]->begin(), all[i]->end(), isSelected)) layers.push_back(i);
        return layers;
    }

    std::vector<LayerGroup> groupsOf(const ir::Model& model, const PassContext& context, const TransformerView& view,
                                     const std::vector<BranchWeights>& layers, PassReport& report) const {
        if (!options_.groups.empty()) return named(view, layers);
        const auto size = static_cast<std::size_t>(options_.groupSize);
        const bool byDistance = options_.grouping == Grouping::distance ||
                                (options_.grouping == Grouping::automatic && compensates(context));
        if (!byDistance) return neighbours(layers, size);
        const std::vector<double> distances = functionalDistances(
            model, layers, context.calibration(kind_.pass, "grouping by distance compares layers on data").head(kDistanceSamples),
            context.environment());
        std::vector<std::string> parts;
        for (std::size_t a = 0; a < layers.size(); ++a)
            for (std::size_t b = a + 1; b < layers.size(); ++b)
                parts.push_back(fmt::format("{}-{} {:.3f}", layers[a].layer, layers[b].layer,
                                            distances[a * layers.size() + b]));
        report.notes.push_back(
            fmt::format("squared error of the outputs with each other's weights: {}", fmt::join(parts, ", ")));
        std::vector<LayerGroup> groups;
        // An infinite distance within a group means that there was no partner of the kind.
        for (const LayerGroup& group : nearestGroups(distances, layers.size(), size)) {
            LayerGroup same;
            for (const std::size_t layer : group)
                if (same.empty() || layers[layer].kind == layers[same.front()].kind)
                    same.push_back(layer);
                else
                    groups.push_back({layer});
            groups.push_back(same);
        }
        std::sort(groups.begin(), groups.end());
        return groups;
    }

    std::vector<LayerGroup> named(const TransformerView& view, const std::vector<BranchWeights>& layers) const {
        std::vector<LayerGroup> groups;
        for (const std::string& text : options_.groups) {
            LayerGroup group;
            const std::vector<std::int64_t> numbers = parseNumbers(text).value();
            for (const std::int64_t number : numbers) {
                const auto found = std::find_if(layers.begin(), layers.end(), [&](const BranchWeights& layer) {
                    return layer.layer == static_cast<std::size_t>(number);
                });
                if (found == layers.end())
                    throw PassError(fmt::format("{}: {} layer {} cannot share its weights (the model has {}; 'tcompress inspect' numbers "
                                                "them)",
                                                kind_.pass, kind_.layer, number, downs(view).size()));
                group.push_back(static_cast<std::size_t>(found - layers.begin()));
                if (layers[group.front()].kind != found->kind)
                    throw PassError(fmt::format("{}: {} layers {} and {} differ in shape or activation", kind_.pass, kind_.layer,
                                                layers[group.front()].layer, number));
            }
            std::sort(group.begin(), group.end());
            groups.push_back(std::move(group));
        }
        std::sort(groups.begin(), groups.end());
        return groups;
    }

    void fit(std::vector<SharedBranch>& shared, const PassContext& context) const {
        const data::Split samples =
            context.calibrationSplit(kind_.pass, "compensate solves for the shared weights", kHeldBackShare);
        for (std::int64_t round = 0; round < options_.rounds; ++round)
            for (SharedBranch& group : shared)
                if (round == 0)
                    group.choose(samples, context.environment());
                else
                    group.refit(samples, context.environment());
    }

    void describe(const SharedBranch& group, PassReport& report) const {
        std::vector<std::size_t> numbers;
        for (const BranchWeights& layer : group.layers()) numbers.push_back(layer.layer);
        for (std::size_t l = 0; l < numbers.size(); ++l) {
            std::string change =
                fmt::format("{} layers {} share their weights ({})", kind_.layer, fmt::join(numbers, ", "), group.way());
            double error = -1;
            if (!group.errors().empty()) {
                error = group.errors()[l];
                change += fmt::format("; output error {:.3f}, {:.3f} with plain averages", error, group.plainErrors()[l]);
            }
            report.changed.push_back({group.layers()[l].name, change, error});
        }
    }

    Options options_;
    Kind kind_;
};

void bind(pipeline::PassInfo& info, const Kind& kind) {
    info.type = "share-parameters";
    info.method = kind.layer;
    info.summary = fmt::format("groups of {} layers read the same weights, solved for on calibration data", kind.layer);
    info.paper = "Lan et al. 2020, ALBERT: A Lite BERT for Self-supervised Learning of Language Representations";
    info.data = pipeline::DataNeed::optional;
    const OptionTable<Options> table = optionTable(kind);
    info.options = table.specs();
    info.make = [table, kind](const OptionValues& values, const std::string& pointer, Diagnostics& diagnostics) {
        Options options = table.fill(values);
        checkOptions(options, pointer, diagnostics);
        return std::make_unique<ShareParameters>(std::move(options), kind);
    };
}

}  // namespace

pipeline::PassInfo shareFeedForward() {
    pipeline::PassInfo info;
    info.details =
        "Layers whose outputs change least when they get each other's weights share one set of matrices, stored once; each "
        "keeps its bias and a scale for every neuron. The shared neurons are averages of matched ones or the ones that each "
        "layer can least do without, whichever is better on samples that are held back; the down projection and the scales "
        "are solved for in closed form. The file shrinks; a layer takes as long as before.";
    info.defaultMethod = true;
    bind(info, kFeedForward);
    return info;
}

pipeline::PassInfo shareAttention() {
    pipeline::PassInfo info;
    info.details =
        "As feed-forward, of attention layers: queries, keys, values and output projections are stored once for a group. The shared "
        "heads, each with its keys and values, are those that each layer can least do without, or averages of matched ones; the output "
        "projection and each layer's scale for every one of its inputs are solved for in closed form. Biases of the output projection "
        "and normalizations stay each layer's own.";
    bind(info, kAttention);
    return info;
}

}  // namespace tcompress::passes
