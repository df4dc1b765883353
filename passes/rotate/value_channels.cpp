#include "passes/rotate/value_channels.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "passes/support/structure.h"

namespace tcompress::passes {
namespace {

using analysis::Site;

/// Why the site's matrix and bias cannot be turned; empty when they can.
std::string siteRefusal(const Site& site) {
    const ir::Node& node = *site.node;
    const Tensor* matrix = site.weight == nullptr ? nullptr : site.weight->constant();
    if (!node.is("MatMul") && !node.is("Gemm")) return fmt::format("{} is no plain linear layer", node.opType());
    if (site.operand != site.weight || matrix == nullptr || matrix->dtype() != DType::float32 ||
        matrix->rank() != 2 || site.weight->uses().size() != 1)
        return fmt::format("'{}' has no float32 matrix of its own", site.name);
    return {};
}

/// Whether the layer's heads are `size` channels side by side along the weight's axis.
bool isByHeads(const analysis::TransformerView& view, const Site& site, std::size_t axis, analysis::AtomId leaf,
               std::int64_t size) {
    const auto positions = leafPositions(*view.axes->store, view.axes->axes.at(site.weight).at(axis), leaf);
    if (positions.empty() || std::ssize(positions) % size != 0) return false;
    for (std::size_t i = 0; i < positions.size(); ++i)
        if (positions[i] != static_cast<std::int64_t>(i) % size) return false;
    return true;
}

/// Moves rows about, or adds constants and sums over them: a rotation along the channels passes through.
bool letsThrough(const ir::Node& node, std::size_t index) {
    for (const char* type : {"Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Identity"})
        if (node.is(type) && index == 0) return true;
    return node.is("MatMul") && index == 1;
}

/// Why what is between the two layers would notice; empty when it would not.
std::string pathRefusal(const Site& values, const Site& output) {
    std::vector<const ir::Value*> queue{values.output};
    std::set<const ir::Value*> seen;
    bool arrives = false;
    while (!queue.empty()) {
        const ir::Value* value = queue.back();
        queue.pop_back();
        if (!seen.insert(value).second) continue;
        if (value->isGraphOutput()) return fmt::format("its values are an output of the model ('{}')", value->name());
        for (const ir::Use& use : value->uses()) {
            if (use.kind != ir::UseKind::input) return "its values are read inside a sub-graph";
            const ir::Node& node = *use.node;
            if (node.is("Shape")) continue;
            if (&node == output.node && value == output.input) {
                arrives = true;
                continue;
            }
            if (&node != values.biasNode && !letsThrough(node, use.index))
                return fmt::format("{} '{}' reads its values", node.opType(), node.label());
            queue.push_back(node.output());
        }
    }
    return arrives ? "" : "its values do not reach the output projection";
}

ValueChannels channelsOf(const analysis::TransformerView& view, const analysis::AttentionLayer& layer) {
    ValueChannels channels;
    if (layer.v.size() != 1 || layer.o.size() != 1) {
        channels.refusal = "no single value and output projection was recognised";
        return channels;
    }
    channels.values = &view.sites[layer.v.front()];
    channels.output = &view.sites[layer.o.front()];
    channels.headSize = layer.valueDim;
    const Site &values = *channels.values, &output = *channels.output;
    for (const Site* site : {&values, &output})
        if (channels.refusal.empty()) channels.refusal = siteRefusal(*site);
    const auto is = [&](const std::vector<std::size_t>& sites) { return sites == layer.v; };
    if (is(layer.q) || is(layer.k)) channels.refusal = "its values come from one product with queries and keys";
    const Tensor* bias = values.bias == nullptr ? nullptr : values.bias->constant();
    if (values.bias != nullptr && (bias == nullptr || bias->dtype() != DType::float32 ||
                                   bias->size() != values.outFeatures || values.bias->uses().size() != 1))
        channels.refusal = "the bias of its values is not its own";
    if (!channels.refusal.empty()) return channels;
    if (layer.valueDimLeaves.size() != 1 || layer.valueDim < 2 ||
        !isByHeads(view, values, values.outAxis, layer.valueDimLeaves.front(), layer.valueDim) ||
        !isByHeads(view, output, output.inAxis, layer.valueDimLeaves.front(), layer.valueDim))
        channels.refusal = "its heads' channels do not lie side by side";
    else
        channels.refusal = pathRefusal(values, output);
    return channels;
}

}  // namespace

std::vector<ValueChannels> valueChannels(const analysis::TransformerView& view) {
    std::vector<ValueChannels> result;
    for (const analysis::AttentionLayer& layer : view.attention) result.push_back(channelsOf(view, layer));
    return result;
}

}  // namespace tcompress::passes
