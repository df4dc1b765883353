// Residual additions, the placement of norms, and the grouping of layers into blocks along the stream.

#include <algorithm>
#include <deque>
#include <optional>

#include "lib/analysis/axis_rules.h"
#include "lib/analysis/view_builder.h"

namespace tcompress::analysis {

namespace {

bool isSkipNorm(const ir::Node& node) {
    return node.opType().rfind("Skip", 0) == 0 && node.domain() == "com.microsoft";
}

bool isNorm(const ir::Node& node) {
    return node.opType().find("LayerNormalization") != std::string::npos || node.is("RMSNormalization");
}

bool isFakeQuantization(const ir::Node& node) {
    return node.is("QuantizeLinear") || node.is("DequantizeLinear");
}

/// The variance of a norm that is spelled out.
bool isMeanOfSquares(const ir::Node& node) {
    if (!node.is("ReduceMean")) return false;
    const ir::Node* square = node.input(0)->producer();
    return square != nullptr && (square->is("Pow") || square->is("Mul"));
}

/// A constant vector of real size: the weight or bias of a norm.
bool isVector(const ModelAxes& axes, const ir::Value* value) {
    if (value == nullptr || !axes.constant(value)) return false;
    const auto shape = axes.shapes.shape(*value);
    return shape && std::count_if(shape->begin(), shape->end(), [](std::int64_t d) { return d > 1; }) == 1;
}

/// Behind a norm only its weight, its bias and a cast still belong to it.
bool isAffineOf(const ModelAxes& axes, const ir::Node& node, const ir::Value& normed) {
    if (normed.uses().size() != 1) return false;
    if (node.is("Cast")) return true;
    return (node.is("Mul") || node.is("Add")) &&
           (isVector(axes, node.input(0)) || isVector(axes, node.input(1)));
}

}  // namespace

// The addition whose other operand lies on the stream that the branch came from. Other additions on the way
// (of biases, of a parallel branch) have operands that do not.
ViewBuilder::Residual ViewBuilder::findResidual(const ir::Value* branchInput,
                                                const ir::Value* branchOutput) const {
    const ValueSet stream = streamBehind(branchInput);
    const ir::Value* origin = source(branchInput);
    std::deque<const ir::Value*> open{branchOutput};
    ValueSet seen;
    while (!open.empty()) {
        const ir::Value* at = open.front();
        open.pop_front();
        if (!seen.insert(at).second) continue;
        for (const ir::Use& use : at->uses()) {
            ir::Node* node = use.node;
            if (node == nullptr || use.kind != ir::UseKind::input || node->is("Shape") || isProduct(*node))
                continue;
            const bool adds = node->is("Add") || isSkipNorm(*node);
            if (adds && use.index < 2) {
                ir::Value* other = node->input(1 - use.index);
                if (other != nullptr && seen.count(other) == 0 && stream.count(other) != 0 &&
                    carries(other, residual_)) {
                    Residual found;
                    found.add = node;
                    found.placement = source(other) == origin ? NormPlacement::post : NormPlacement::pre;
                    if (isSkipNorm(*node)) {
                        // A fused pre-norm hands on two values, the sum and its norm: no single value is the
                        // layer's output.
                        if (found.placement == NormPlacement::post) {
                            found.input = other;
                            found.output = node->output(0);
                        }
                    } else {
                        found.input = other;
                        found.output = found.placement == NormPlacement::post ? endOfNorm(node->output())
                                                                              : node->output();
                    }
                    return found;
                }
            }
            for (const ir::Value* output : node->outputs()) {
                if (output != nullptr && carries(output, residual_)) open.push_back(output);
            }
        }
    }
    return {};
}

// The value that everything behind `start` passes through once the norm is done: nodes are taken in order
// while some value of the region is still read; when one value alone is, the region has a single exit there.
// Null when no norm follows.
ir::Value* ViewBuilder::endOfNorm(ir::Value* start) const {
    std::unordered_map<const ir::Value*, std::size_t> unread{{start, start->uses().size()}};
    bool normed = false;
    ir::Value* exit = nullptr;
    const auto& nodes = model_.graph().nodes();
    const std::size_t first = start->producer() == nullptr ? 0 : start->producer()->position() + 1;
    for (std::size_t position = first; position < nodes.size(); ++position) {
        const ir::Node& node = *nodes[position];
        const bool concerned =
            std::any_of(node.inputs().begin(), node.inputs().end(),
                        [&](const ir::Value* v) { return v != nullptr && unread.count(v) != 0; });
        if (!concerned) continue;
        const bool onlyAsksShape = node.is("Shape");
        if (exit != nullptr && !onlyAsksShape && !isAffineOf(*axes_, node, *exit)) return exit;
        const bool native = isNorm(node);
        if (!native && !onlyAsksShape && !node.is("ReduceMean") && !isElementwise(node) &&
            !isFakeQuantization(node)) {
            return exit;
        }
        normed = normed || native || isMeanOfSquares(node);
        for (const ir::Value* input : node.inputs()) {
            const auto found = unread.find(input);
            if (found != unread.end() && --found->second == 0) unread.erase(found);
        }
        for (const ir::Value* output : node.outputs()) {
            if (!onlyAsksShape && output != nullptr && !output->uses().empty())
                unread[output] = output->uses().size();
        }
        if (normed && unread.size() == 1 && unread.begin()->first == node.output() &&
            carries(node.output(), residual_)) {
            exit = node.output();
        }
        if (unread.empty()) return exit;
    }
    return exit;
}

namespace {

enum class LayerKind { attention, feedForward };

struct Layer {
    LayerKind kind;
    std::size_t index;
    bool cross;
    ir::Value* input;
    ir::Value* output;
    const ir::Node* add;
    std::size_t position;
};

struct Group {
    std::vector<Layer> layers;
    bool has(LayerKind kind) const {
        return std::any_of(layers.begin(), layers.end(), [&](const Layer& l) { return l.kind == kind; });
    }
    bool feedForwardBehindAttention() const {
        return has(LayerKind::attention) && layers.back().kind == LayerKind::feedForward;
    }
};

/// Whether a layer opens a block after those of `group`. Branches that leave the stream at one value are one
/// block.
bool opensBlock(const Group& group, const Layer& layer) {
    if (group.layers.empty()) return false;
    const Layer& last = group.layers.back();
    if (layer.input != nullptr && layer.input == last.input) return false;
    if (layer.kind == LayerKind::attention) return group.has(LayerKind::attention) && !layer.cross;
    return group.feedForwardBehindAttention() || !group.has(LayerKind::attention);
}

}  // namespace

void ViewBuilder::groupBlocks() {
    std::vector<Layer> layers;
    for (std::size_t i = 0; i < view_.attention.size(); ++i) {
        const AttentionLayer& a = view_.attention[i];
        const ir::Node* place = a.residualAdd != nullptr ? a.residualAdd : a.softmax;
        layers.push_back(
            {LayerKind::attention, i, a.cross, a.input, a.output, a.residualAdd, place->position()});
    }
    for (std::size_t i = 0; i < view_.feedForward.size(); ++i) {
        const FeedForward& f = view_.feedForward[i];
        layers.push_back(
            {LayerKind::feedForward, i, false, f.input, f.output, f.residualAdd, f.residualAdd->position()});
    }
    std::stable_sort(layers.begin(), layers.end(),
                     [](const Layer& a, const Layer& b) { return a.position < b.position; });

    // A model may hold several streams (encoder and decoder): a layer continues the one its input was
    // computed from.
    std::vector<std::vector<Group>> streams;
    for (const Layer& layer : layers) {
        std::vector<Group>* stream = nullptr;
        if (layer.input != nullptr) {
            const ValueSet behind = streamBehind(layer.input);
            for (auto& candidate : streams) {
                const Layer& last = candidate.back().layers.back();
                const bool parallel = last.input == layer.input;
                if (parallel || (last.output != nullptr && behind.count(last.output) != 0))
                    stream = &candidate;
            }
        } else if (!streams.empty()) {
            stream = &streams.back();
        }
        if (stream == nullptr) stream = &streams.emplace_back(1);
        if (opensBlock(stream->back(), layer)) stream->emplace_back();
        stream->back().layers.push_back(layer);
    }

    std::vector<Group> groups;
    for (auto& stream : streams) groups.insert(groups.end(), stream.begin(), stream.end());
    std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
        return a.layers.front().position < b.layers.front().position;
    });
    for (const Group& group : groups) {
        Block block;
        for (const Layer& layer : group.layers) {
            (layer.kind == LayerKind::attention ? block.attention : block.feedForward).push_back(layer.index);
        }
        block.input = group.layers.front().input;
        block.output = group.layers.back().output;
        view_.blocks.push_back(std::move(block));
    }
    for (const Block& block : view_.blocks) {
        if (block.input == nullptr || axes_->of(block.input) == nullptr) continue;
        for (const Axis& axis : *axes_->of(block.input)) {
            if (intersects(leavesOf(axis), residual_)) view_.hiddenSize = store_.size(axis);
        }
        break;
    }
}

}  // namespace tcompress::analysis
