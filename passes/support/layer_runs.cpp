#include "passes/support/layer_runs.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "lib/ir/emit.h"

namespace tcompress::passes {

using analysis::TransformerView;

namespace {

/// Branches in parallel share their ends: one alone cannot be cut out there.
void refuseParallel(const TransformerView& view, std::vector<LayerSpan>& spans) {
    std::map<const ir::Value*, int> ends;
    for (const auto& layer : view.attention) ++ends[layer.output];
    for (const auto& layer : view.feedForward) ++ends[layer.output];
    for (LayerSpan& span : spans)
        if (span.output != nullptr && ends[span.output] > 1) span.input = span.output = nullptr;
}

std::vector<LayerSpan> sublayersInOrder(const TransformerView& view) {
    std::vector<LayerSpan> spans = layerSpans(view, LayerPart::attention), others = layerSpans(view, LayerPart::feedForward);
    spans.insert(spans.end(), others.begin(), others.end());
    std::stable_sort(spans.begin(), spans.end(), [](const LayerSpan& a, const LayerSpan& b) {
        const auto position = [](const LayerSpan& span) { return span.isDroppable() ? span.output->producer()->position() : 0; };
        return position(a) < position(b);
    });
    return spans;
}

}  // namespace

std::vector<LayerSpan> layerSpans(const TransformerView& view, LayerPart part) {
    std::vector<LayerSpan> spans;
    const auto add = [&](const char* kind, const auto& layers) {
        for (const auto& layer : layers)
            spans.push_back({fmt::format("{} {}", kind, spans.size()), layer.input, layer.output});
    };
    switch (part) {
        case LayerPart::block: add("layer", view.blocks); break;
        case LayerPart::attention: add("attention", view.attention); break;
        case LayerPart::feedForward: add("feed-forward", view.feedForward); break;
        case LayerPart::branch: return sublayersInOrder(view);
    }
    if (part != LayerPart::block) refuseParallel(view, spans);
    return spans;
}

std::vector<LayerRun> runsOf(const std::vector<LayerSpan>& spans, const std::set<std::size_t>& dropped) {
    std::vector<LayerRun> runs;
    for (const std::size_t layer : dropped) {
        const LayerSpan& span = spans[layer];
        if (!runs.empty() && runs.back().output == span.input->name()) {
            runs.back().layers.push_back(layer);
            runs.back().names.push_back(span.name);
            runs.back().output = span.output->name();
            runs.back().name += fmt::format(" and {}", span.name);
        } else {
            runs.push_back({{layer}, {span.name}, span.name, span.input->name(), span.output->name(), {}});
        }
    }
    return runs;
}

namespace {

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

/// Graph outputs that come out of the middle of a layer (its key-value cache): computed from its input, not
/// from its output, although values between the two feed them.
std::vector<ir::Value*> sideOutputs(const ir::Graph& graph, const ir::Value* input, const ir::Value* output) {
    const ValueSet fromInput = downstream(graph, input);
    const ValueSet fromOutput = downstream(graph, output);
    // Values on a path from the block's input to its output.
    ValueSet inside;
    std::vector<const ir::Value*> pending = {output};
    while (!pending.empty()) {
        const ir::Value* value = pending.back();
        pending.pop_back();
        if (value == input || !fromInput.contains(value) || !inside.insert(value).second) continue;
        if (value->producer() != nullptr)
            for (const ir::Value* operand : value->producer()->inputs())
                if (operand != nullptr) pending.push_back(operand);
    }
    ValueSet fromInside;
    for (const auto& node : graph.nodes()) {
        const auto& inputs = node->inputs();
        if (std::any_of(inputs.begin(), inputs.end(), [&](const ir::Value* v) {
                return v != nullptr && (inside.contains(v) || fromInside.contains(v)) && v != output;
            }))
            fromInside.insert(node->outputs().begin(), node->outputs().end());
    }
    std::vector<ir::Value*> result;
    for (ir::Value* graphOutput : graph.outputs())
        if ((fromInside.contains(graphOutput) || inside.contains(graphOutput)) &&
            !fromOutput.contains(graphOutput))
            result.push_back(graphOutput);
    return result;
}

ir::Value* emitPatch(ir::Edit& edit, ir::Value* input, const LayerRun& run) {
    const auto outputs = static_cast<std::int64_t>(run.patch->bias.size());
    const auto inputs = static_cast<std::int64_t>(run.patch->weight.size()) / outputs;
    Tensor weight(DType::float32, {inputs, outputs}), bias(DType::float32, {outputs});
    std::copy(run.patch->weight.begin(), run.patch->weight.end(), weight.mutableData<float>().begin());
    std::copy(run.patch->bias.begin(), run.patch->bias.end(), bias.mutableData<float>().begin());
    ir::Value* product = input;
    if (inputs > 0) product = emit(edit, "MatMul", {input, edit.addInitializer(run.output + "_patch", weight)});
    return emit(edit, "Add", {product, edit.addInitializer(run.output + "_patch_bias", bias)});
}

}  // namespace

void cutOut(ir::Model& model, const LayerRun& run, const std::string& pass, pipeline::PassReport& report) {
    ir::Value *const input = model.graph().find(run.input), *const output = model.graph().find(run.output);
    ValueSet unusedBefore;
    for (const ir::Value* graphInput : model.graph().inputs())
        if (graphInput->uses().empty()) unusedBefore.insert(graphInput);
    ir::Edit edit(model, pass);
    for (ir::Value* cache : sideOutputs(model.graph(), input, output)) {
        report.notes.push_back(
            fmt::format("graph output '{}' belonged to {} and is gone", cache->name(), run.name));
        edit.removeGraphOutput(cache);
    }
    edit.replaceAllUses(output, run.patch ? emitPatch(edit, input, run) : input);
    edit.commit();
    ir::Edit inputs(model, pass);
    for (ir::Value* graphInput : model.graph().inputs())
        if (graphInput->uses().empty() && !unusedBefore.contains(graphInput)) {
            report.notes.push_back(
                fmt::format("graph input '{}' is not needed any more and is gone", graphInput->name()));
            inputs.removeGraphInput(graphInput);
        }
    if (!inputs.empty()) inputs.commit();
}

exec::Feeds feedsLeft(const ir::Model& model, exec::Feeds feeds) {
    std::erase_if(feeds, [&](const auto& feed) { return model.graph().find(feed.first) == nullptr; });
    for (auto& [name, tensor] : feeds) {
        const std::optional<Shape> declared = model.graph().find(name)->shape();
        if (!declared || std::ssize(*declared) != tensor.rank()) continue;
        for (std::size_t axis = 0; axis < declared->size(); ++axis) {
            const std::int64_t size = (*declared)[axis], fed = tensor.shape()[axis];
            if (size < 0 || size >= fed) continue;
            std::vector<bool> stays(static_cast<std::size_t>(fed), false);
            std::fill_n(stays.begin(), size, true);
            tensor = compress(tensor, static_cast<std::int64_t>(axis), stays);
        }
    }
    return feeds;
}

std::vector<std::string> comparableOutputs(const ir::Graph& graph, const std::vector<LayerSpan>& spans) {
    ValueSet caches;
    for (const LayerSpan& span : spans)
        if (span.isDroppable())
            for (const ir::Value* cache : sideOutputs(graph, span.input, span.output)) caches.insert(cache);
    std::vector<std::string> names;
    for (const ir::Value* output : graph.outputs())
        if (output->producer() != nullptr && isFloatingPoint(output->dtype()) && !caches.contains(output) &&
            std::find(names.begin(), names.end(), output->name()) == names.end())
            names.push_back(output->name());
    return names;
}

}  // namespace tcompress::passes
