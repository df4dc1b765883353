// Drops whole layers: what read a block's output reads its input instead, and everything that only that block
// needed goes, its key-value cache inputs and outputs included.
//
//   x → block 3 → y → block 4      becomes      x → block 4
//
// Sources: Men et al. 2024, "ShortGPT" (block influence: 1 − cosine of a block's input and output on
// calibration data); Sajjad et al. 2023, "On the effect of dropping layers of pre-trained Transformer
// models". The remaining layers are not adjusted. Works for pre-norm blocks (the residual stream) and
// post-norm blocks (from norm to norm). Not handled: a block whose input and output are not one residual
// stream (refused with the reason).

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "lib/ir/edit.h"
#include "lib/calibration/similarity.h"
#include "lib/support/error.h"
#include "passes/passes.h"

namespace tcompress::passes {
namespace {

using analysis::Block;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "drop-layers";

enum class Criterion { automatic, blockInfluence, last };

struct Options {
    std::vector<std::int64_t> layers;
    std::optional<std::int64_t> count;
    Criterion criterion = Criterion::automatic;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("layers", &Options::layers,
                "layers to drop by number, from 0, as 'tcompress inspect' counts them")
        .option("count", &Options::count, "number of layers to drop, chosen by the criterion")
        .range(1, 1 << 16)
        .choice(
            "criterion", &Options::criterion,
            {{"auto", Criterion::automatic},
             {"block-influence", Criterion::blockInfluence},
             {"last", Criterion::last}},
            "how count chooses: block-influence drops the layers whose output is nearest to their input on "
            "calibration data; last drops the last ones; auto takes block-influence when there are "
            "calibration data");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    if (options.layers.empty() == !options.count.has_value())
        diagnostics.add(pointer,
                        "drop-layers needs either layers (numbers) or count, not both and not neither");
}

using ValueSet = std::set<const ir::Value*>;

/// Values computed from `start`, itself included.
ValueSet downstream(const ir::Graph& graph, const ir::Value* start) {
    ValueSet reached = {start};
    for (const auto& node : graph.nodes()) {
        const auto& inputs = node->inputs();
        if (std::any_of(inputs.begin(), inputs.end(),
                        [&](const ir::Value* v) { return v != nullptr && reached.contains(v); }))
            reached.insert(node->outputs().begin(), node->outputs().end());
    }
    reached.erase(nullptr);
    return reached;
}

/// Graph outputs that come out of the middle of a block (its key-value cache): computed from its input, not
/// from its output, although values between the two feed them.
std::vector<ir::Value*> sideOutputs(const ir::Graph& graph, const Block& block) {
    const ValueSet fromInput = downstream(graph, block.input);
    const ValueSet fromOutput = downstream(graph, block.output);
    // Values on a path from the block's input to its output.
    ValueSet inside;
    std::vector<const ir::Value*> pending = {block.output};
    while (!pending.empty()) {
        const ir::Value* value = pending.back();
        pending.pop_back();
        if (value == block.input || !fromInput.contains(value) || !inside.insert(value).second) continue;
        if (value->producer() != nullptr)
            for (const ir::Value* input : value->producer()->inputs())
                if (input != nullptr) pending.push_back(input);
    }
    ValueSet fromInside;
    for (const auto& node : graph.nodes()) {
        const auto& inputs = node->inputs();
        if (std::any_of(inputs.begin(), inputs.end(), [&](const ir::Value* v) {
                return v != nullptr && (inside.contains(v) || fromInside.contains(v)) && v != block.output;
            }))
            fromInside.insert(node->outputs().begin(), node->outputs().end());
    }
    std::vector<ir::Value*> result;
    for (ir::Value* output : graph.outputs())
        if ((fromInside.contains(output) || inside.contains(output)) && !fromOutput.contains(output))
            result.push_back(output);
    return result;
}

/// The block's input, or, where the blocks before it are dropped too, the input of the first of them.
ir::Value* remainingInput(const TransformerView& view, const std::set<std::int64_t>& dropped,
                          std::int64_t layer) {
    ir::Value* input = view.blocks[static_cast<std::size_t>(layer)].input;
    for (std::int64_t before = layer - 1; before >= 0; --before)
        if (dropped.contains(before) && view.blocks[static_cast<std::size_t>(before)].output == input)
            input = view.blocks[static_cast<std::size_t>(before)].input;
    return input;
}

class DropLayers : public pipeline::Pass {
  public:
    explicit DropLayers(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const TransformerView& view = context.view(model);
        PassReport report;
        const std::set<std::int64_t> dropped = choose(model, context, view, report);
        const std::set<const ir::Value*> unusedBefore = unusedInputs(model.graph());
        drop(model, view, dropped, report);
        removeInputs(model, unusedBefore, report);
        return report;
    }

  private:
    std::set<std::int64_t> choose(const ir::Model& model, const PassContext& context,
                                  const TransformerView& view, PassReport& report) const {
        const auto layers = static_cast<std::int64_t>(view.blocks.size());
        if (layers == 0)
            throw PassError(fmt::format(
                "{}: no layer was recognised in this model; 'tcompress inspect' says why", kPass));
        for (const std::int64_t layer : options_.layers)
            if (layer < 0 || layer >= layers)
                throw PassError(fmt::format("{}: layers names {}, but the model has {} layers (0 to {})",
                                            kPass, layer, layers, layers - 1));
        if (options_.count.value_or(0) >= layers ||
            static_cast<std::int64_t>(options_.layers.size()) >= layers)
            throw PassError(fmt::format(
                "{}: asked to drop {} of {} layers; one must stay", kPass,
                std::max(options_.count.value_or(0), static_cast<std::int64_t>(options_.layers.size())),
                layers));
        if (!options_.layers.empty()) {
            for (const std::int64_t layer : options_.layers)
                if (!droppable(view.blocks[static_cast<std::size_t>(layer)]))
                    throw PassError(fmt::format(
                        "{}: layer {} does not begin and end on the residual stream and cannot be dropped",
                        kPass, layer));
            return {options_.layers.begin(), options_.layers.end()};
        }
        return chooseByCriterion(model, context, view, report);
    }

    static bool droppable(const Block& block) { return block.input != nullptr && block.output != nullptr; }

    std::set<std::int64_t> chooseByCriterion(const ir::Model& model, const PassContext& context,
                                             const TransformerView& view, PassReport& report) const {
        std::vector<std::int64_t> layers;
        for (std::size_t i = 0; i < view.blocks.size(); ++i) {
            if (droppable(view.blocks[i]))
                layers.push_back(static_cast<std::int64_t>(i));
            else
                report.skipped.push_back(
                    {fmt::format("layer {}", i), "it does not begin and end on the residual stream"});
        }
        if (static_cast<std::int64_t>(layers.size()) < *options_.count)
            throw PassError(fmt::format("{}: asked to drop {} layers, but only {} can be dropped", kPass,
                                        *options_.count, layers.size()));
        const bool byInfluence = options_.criterion == Criterion::blockInfluence ||
                                 (options_.criterion == Criterion::automatic && context.hasCalibration());
        if (byInfluence)
            sortByInfluence(layers, model, context, view, report);
        else {
            report.notes.push_back("the last layers are dropped, without calibration data");
            std::reverse(layers.begin(), layers.end());
        }
        return {layers.begin(), layers.begin() + static_cast<std::ptrdiff_t>(*options_.count)};
    }

    /// Least influential first, ties by number.
    static void sortByInfluence(std::vector<std::int64_t>& layers, const ir::Model& model,
                                const PassContext& context, const TransformerView& view, PassReport& report) {
        std::vector<calibration::Span> spans;
        for (const std::int64_t layer : layers) {
            const Block& block = view.blocks[static_cast<std::size_t>(layer)];
            spans.push_back({block.input, block.output});
        }
        const std::vector<double> influence = calibration::blockInfluence(
            model,
            context.calibration(kPass, "criterion block-influence compares each layer's input and output"),
            spans, context.progress(), context.resources());
        std::map<std::int64_t, double> byLayer;
        std::vector<std::string> ranking;
        for (std::size_t i = 0; i < layers.size(); ++i) {
            byLayer[layers[i]] = influence[i];
            ranking.push_back(fmt::format("{}: {:.4f}", layers[i], influence[i]));
        }
        report.notes.push_back(fmt::format("block influence by layer: {}", fmt::join(ranking, ", ")));
        std::stable_sort(layers.begin(), layers.end(),
                         [&](std::int64_t a, std::int64_t b) { return byLayer[a] < byLayer[b]; });
    }

    static void drop(ir::Model& model, const TransformerView& view, const std::set<std::int64_t>& dropped,
                     PassReport& report) {
        ir::Edit edit(model, kPass);
        for (const std::int64_t layer : dropped) {
            const Block& block = view.blocks[static_cast<std::size_t>(layer)];
            const std::vector<ir::Value*> caches = sideOutputs(model.graph(), block);
            for (ir::Value* output : caches) {
                report.notes.push_back(
                    fmt::format("graph output '{}' belonged to layer {} and is gone", output->name(), layer));
                edit.removeGraphOutput(output);
            }
            edit.replaceAllUses(block.output, remainingInput(view, dropped, layer));
            report.changed.push_back(
                {fmt::format("layer {}", layer), fmt::format("dropped ('{}' takes the place of '{}')",
                                                             block.input->name(), block.output->name())});
        }
        edit.commit();
    }

    static std::set<const ir::Value*> unusedInputs(const ir::Graph& graph) {
        std::set<const ir::Value*> unused;
        for (const ir::Value* input : graph.inputs())
            if (input->uses().empty()) unused.insert(input);
        return unused;
    }

    /// Removes cache inputs that only a dropped layer read.
    static void removeInputs(ir::Model& model, const std::set<const ir::Value*>& unusedBefore,
                             PassReport& report) {
        ir::Edit edit(model, kPass);
        for (ir::Value* input : model.graph().inputs())
            if (input->uses().empty() && !unusedBefore.contains(input)) {
                report.notes.push_back(
                    fmt::format("graph input '{}' is not needed any more and is gone", input->name()));
                edit.removeGraphInput(input);
            }
        if (!edit.empty()) edit.commit();
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo dropLayers() {
    pipeline::PassInfo info;
    info.type = "drop-layers";
    info.summary = "drop whole layers, by number or by their influence on calibration data";
    info.details =
        "Connects what read a layer's output to its input and removes all that only that layer needed, its "
        "key-value cache "
        "inputs and outputs included. Pre-norm and post-norm models. The remaining layers are not adjusted.";
    info.paper =
        "Men et al. 2024, ShortGPT: Layers in Large Language Models are More Redundant Than You Expect";
    info.data = pipeline::DataNeed::optional;
    info.defaultMethod = true;
    bindOptions<DropLayers, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
