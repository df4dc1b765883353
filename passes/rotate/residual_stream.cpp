#include "passes/rotate/residual_stream.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace tcompress::passes {
namespace {

using analysis::Site;

/// A gain this much smaller than the largest cannot be divided by.
constexpr float kSmallestGain = 1e-3F;

struct Refused {
    std::string reason;
};

bool keepsRows(const ir::Node& node) {
    return node.is("Reshape") || node.is("Unsqueeze") || node.is("Squeeze") || node.is("Identity") ||
           node.is("Flatten");
}

bool isNorm(const ir::Node& node) {
    return node.opType() == "LayerNormalization" || node.opType() == "RMSNormalization" ||
           node.opType() == "SimplifiedLayerNormalization";
}

class Walk {
  public:
    Walk(const ir::Model& model, const analysis::TransformerView& view) : view_(view), hidden_(view.hiddenSize) {
        for (const Site& site : view.sites) byNode_[site.node] = &site;
        const analysis::AtomId leaf = streamLeaf();
        if (leaf < 0) return;
        for (const AffineSite& site : affineSites(model, *view.axes, leaf)) affine_.emplace(site.gainNode, site);
    }

    StreamPlan run() {
        try {
            for (const auto& layer : view_.attention) start(layer.input);
            for (const auto& layer : view_.feedForward) start(layer.input);
            if (queue_.empty()) throw Refused{"no layer with a residual stream was recognised"};
            while (!queue_.empty()) {
                const ir::Value* value = queue_.back();
                queue_.pop_back();
                lookAt(*value);
            }
            for (const auto& [constant, turned] : plan_.constants)
                if (turned.uses != constant->uses().size())
                    throw Refused{fmt::format("'{}' is used elsewhere too", constant->name())};
        } catch (const Refused& refused) {
            plan_.refusal = refused.reason;
        }
        return std::move(plan_);
    }

  private:
    void start(const ir::Value* value) {
        if (value != nullptr) push(value);
    }

    void push(const ir::Value* value) {
        if (seen_.insert(value).second) queue_.push_back(value);
    }

    /// The axis that the stream's values are rows of; −1 when it is split.
    analysis::AtomId streamLeaf() const {
        for (const auto& layer : view_.attention) {
            const auto* axes = layer.input == nullptr ? nullptr : view_.axes->of(layer.input);
            if (axes == nullptr || axes->empty()) continue;
            const auto leaves = view_.axes->store->leaves(axes->back());
            if (leaves.size() == 1) return leaves.front();
        }
        return -1;
    }

    std::int64_t lastDimension(const ir::Value& value) const {
        const auto shape = view_.axes->shapes.shape(value);
        return shape && !shape->empty() ? shape->back() : shape ? 1 : -1;
    }

    [[noreturn]] static void refuse(const ir::Node& node, const char* what) {
        throw Refused{fmt::format("{} '{}' {}", node.opType(), node.label(), what)};
    }

    /// A value that is turned: what makes it and what reads it.
    void lookAt(const ir::Value& value) {
        if (value.isGraphOutput())
            throw Refused{fmt::format("the residual stream is an output of the model ('{}')", value.name())};
        if (value.producer() == nullptr)
            throw Refused{fmt::format("the residual stream is an input of the model ('{}')", value.name())};
        if (lastDimension(value) != hidden_)
            throw Refused{fmt::format("'{}' is not [.., {}]", value.name(), hidden_)};
        if (!made_.contains(&value)) lookAtProducer(*value.producer());
        for (const ir::Use& use : value.uses()) lookAtReader(value, use);
    }

    void lookAtProducer(ir::Node& node) {
        if (const auto found = byNode_.find(&node); found != byNode_.end()) return lookAtWriter(*found->second);
        if (node.is("Add")) return lookAtSum(node);
        if (keepsRows(node)) return pushSource(node.input(0));
        const bool isScaled = (node.is("Mul") || node.is("Div")) && lastDimension(*node.input(1)) == 1;
        if (isScaled) return pushSource(node.input(0));
        refuse(node, "writes the residual stream and is no linear layer");
    }

    /// A computed value that is turned, or a constant that has to be.
    void pushSource(ir::Value* value) {
        if (view_.axes->constant(value))
            turn(*value, lastAxis(*value), -1);
        else
            push(value);
    }

    std::size_t lastAxis(const ir::Value& constant) const {
        if (constant.constant() == nullptr || constant.dtype() != DType::float32 ||
            constant.constant()->rank() == 0 || constant.constant()->shape().back() != hidden_)
            throw Refused{fmt::format("the constant '{}' in the residual stream is no float32 [.., {}]",
                                      constant.name(), hidden_)};
        return constant.constant()->shape().size() - 1;
    }

    void lookAtSum(ir::Node& node) {
        if (!sums_.insert(&node).second) return;
        for (std::size_t i = 0; i < 2; ++i) pushSource(node.input(i));
        push(node.output());
    }

    void lookAtWriter(const Site& site) {
        const bool isTable = site.role == analysis::SiteRole::embedding && site.node->is("Gather") &&
                             site.node->attributeInt("axis", 0) == 0;
        if (!isTable) checkLinear(site);
        turn(matrixOf(site), isTable ? 1 : site.outAxis, -1);
        if (site.node->is("Gemm") && site.node->input(2) != nullptr)
            turn(*site.node->input(2), lastAxis(*site.node->input(2)), -1);
    }

    void checkLinear(const Site& site) const {
        const ir::Node& node = *site.node;
        const bool plain = node.is("MatMul") || (node.is("Gemm") && node.attributeInt("transA", 0) == 0);
        if (!plain || site.input != node.input(0)) refuse(node, "is no plain linear layer");
    }

    ir::Value& matrixOf(const Site& site) const {
        const Tensor* constant = site.weight == nullptr ? nullptr : site.weight->constant();
        if (site.operand != site.weight || constant == nullptr || constant->dtype() != DType::float32 ||
            constant->rank() != 2)
            refuse(*site.node, "has no float32 matrix of its own");
        return *site.weight;
    }

    void turn(ir::Value& constant, std::size_t axis, int gain) {
        TurnedConstant& turned = plan_.constants[&constant];
        ++turned.uses;
        const TurnedConstant::Axis asked{axis, gain};
        const auto same = std::find_if(turned.axes.begin(), turned.axes.end(),
                                       [&](const auto& known) { return known.axis == axis; });
        if (same == turned.axes.end())
            turned.axes.push_back(asked);
        else if (*same != asked)
            throw Refused{fmt::format("'{}' is shared by layers behind different norms", constant.name())};
    }

    void lookAtReader(const ir::Value& value, const ir::Use& use) {
        if (use.kind != ir::UseKind::input) throw Refused{"the residual stream is read inside a sub-graph"};
        ir::Node& node = *use.node;
        if (node.is("Shape")) return;
        if (const auto found = byNode_.find(&node); found != byNode_.end() && found->second->input == &value)
            return lookAtLayer(*found->second, -1);
        if (isNorm(node) && use.index == 0) return lookAtNorm(node);
        if (node.is("Add")) return lookAtSum(node);
        if (keepsRows(node) && use.index == 0) return pass(node);
        if (node.is("ReduceMean") && isOverRows(node)) return;
        if (isSquare(node, value)) return lookAtSquare(node);
        if (node.is("Sub") && use.index == 0 && lastDimension(*node.input(1)) == 1) return pass(node);
        if (node.is("Div") && use.index == 0 && lastDimension(*node.input(1)) == 1) return pass(node);
        if (node.is("Mul")) {
            const std::size_t other = 1 - use.index;
            if (lastDimension(*node.input(other)) == 1) return pass(node);
            if (node.input(other)->constant() != nullptr) return addGain(node);
        }
        refuse(node, "does not commute with a rotation of the residual stream");
    }

    /// The node's output is turned as its input is.
    void pass(const ir::Node& node) {
        made_.insert(node.output());
        push(node.output());
    }

    /// A mean along the last axis that is left in place.
    bool isOverRows(const ir::Node& node) const {
        const auto before = view_.axes->shapes.shape(*node.input(0)), after = view_.axes->shapes.shape(*node.output());
        if (!before || !after || before->size() != after->size() || after->back() != 1) return false;
        return std::equal(before->begin(), before->end() - 1, after->begin());
    }

    static bool isSquare(const ir::Node& node, const ir::Value& value) {
        if (node.is("Mul")) return node.input(0) == &value && node.input(1) == &value;
        const Tensor* power = node.is("Pow") && node.input(0) == &value ? node.input(1)->constant() : nullptr;
        return power != nullptr && power->size() == 1 && toFloat32(*power).front() == 2;
    }

    /// The length of a row is all that may be made of its squares.
    void lookAtSquare(const ir::Node& node) const {
        for (const ir::Use& use : node.output()->uses())
            if (use.kind != ir::UseKind::input || !use.node->is("ReduceMean") || !isOverRows(*use.node))
                refuse(node, "squares the residual stream for more than its length");
    }

    void lookAtNorm(ir::Node& node) {
        const std::int64_t axis = node.attributeInt("axis", -1);
        const auto shape = view_.axes->shapes.shape(*node.input(0));
        if (axis != -1 && (!shape || axis != std::ssize(*shape) - 1)) refuse(node, "normalizes more than rows");
        for (std::size_t i = 1; i < node.outputs().size(); ++i)
            if (node.output(i) != nullptr && !node.output(i)->uses().empty())
                refuse(node, "has a second result that is used");
        addGain(node);
    }

    void addGain(ir::Node& node) {
        const auto found = affine_.find(&node);
        if (found == affine_.end()) refuse(node, "has no constant gain and bias of the stream's size");
        const AffineSite& site = found->second;
        float least = HUGE_VALF, most = 0;
        for (const float value : site.gain().data<float>()) {
            least = std::min(least, std::fabs(value));
            most = std::max(most, std::fabs(value));
        }
        if (site.bias() != nullptr && !(least > kSmallestGain * most)) refuse(node, "has gains near 0 and a bias");
        plan_.gains.push_back(site);
        lookAtNormalized(*site.output, static_cast<int>(plan_.gains.size()) - 1);
    }

    /// Behind a norm all must be linear layers, which take the gain.
    void lookAtNormalized(const ir::Value& value, int gain) {
        if (value.isGraphOutput()) throw Refused{fmt::format("the norm's result '{}' is an output", value.name())};
        for (const ir::Use& use : value.uses()) {
            if (use.kind != ir::UseKind::input) throw Refused{"a norm is read inside a sub-graph"};
            ir::Node& node = *use.node;
            if (node.is("Shape")) continue;
            const auto found = byNode_.find(&node);
            if (found != byNode_.end() && found->second->input == &value)
                lookAtLayer(*found->second, gain);
            else if (keepsRows(node) && use.index == 0 && lastDimension(*node.output()) == hidden_)
                lookAtNormalized(*node.output(), gain);
            else if (node.is("Mul") && lastDimension(*node.input(1 - use.index)) == 1)
                lookAtNormalized(*node.output(), gain);
            else
                refuse(node, "reads a norm and is no linear layer, so that the gain has no place to go");
        }
    }

    void lookAtLayer(const Site& site, int gain) {
        checkLinear(site);
        turn(matrixOf(site), site.inAxis, gain);
    }

    const analysis::TransformerView& view_;
    std::int64_t hidden_;
    std::map<const ir::Node*, const Site*> byNode_;
    std::map<const ir::Node*, AffineSite> affine_;
    std::set<const ir::Value*> seen_, made_;
    std::set<const ir::Node*> sums_;
    std::vector<const ir::Value*> queue_;
    StreamPlan plan_;
};

}  // namespace

StreamPlan planStream(const ir::Model& model, const analysis::TransformerView& view) { return Walk(model, view).run(); }

}  // namespace tcompress::passes
