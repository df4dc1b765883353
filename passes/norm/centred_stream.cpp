#include "passes/norm/centred_stream.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <set>

#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;

struct Refused {
    std::string reason;
};

/// Operators whose first input's channels go through unmixed, as long as they are an axis of the output.
bool movesRows(const ir::Node& node) {
    static const std::set<std::string_view> types = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity",
                                                     "Flatten", "Slice",     "Gather",  "Expand"};
    return node.domain().empty() && types.contains(node.opType());
}

/// A mean along the last axis, kept as an axis of one.
bool isMeanOverLast(const ir::Node& node) {
    if (!node.is("ReduceMean") || node.attributeInt("keepdims", 1) != 1) return false;
    std::vector<std::int64_t> axes = node.attributeInts("axes").value_or(std::vector<std::int64_t>{});
    if (node.inputs().size() > 1 && node.input(1) != nullptr) {
        const Tensor* given = node.input(1)->constant();
        if (given == nullptr || given->dtype() != DType::int64) return false;
        axes.assign(given->data<std::int64_t>().begin(), given->data<std::int64_t>().end());
    }
    const auto shape = node.input(0)->shape();
    return axes.size() == 1 && (axes[0] == -1 || (shape && axes[0] == std::ssize(*shape) - 1));
}

class Walk {
  public:
    Walk(const analysis::TransformerView& view, analysis::AtomId leaf) : view_(view), leaf_(leaf) {
        for (const Site& site : view.sites) byNode_[site.node] = &site;
    }

    CentredStream run(ir::Value& start) {
        try {
            push(&start);
            while (!queue_.empty()) {
                ir::Value* value = queue_.back();
                queue_.pop_back();
                lookAt(*value);
            }
            takeTiedTablesOut();
        } catch (const Refused& refused) {
            return {refused.reason, {}, {}, {}};
        }
        for (const auto& [position, node] : norms_) plan_.norms.push_back(node);
        return std::move(plan_);
    }

  private:
    void push(ir::Value* value) {
        if (seen_.insert(value).second) queue_.push_back(value);
    }

    [[noreturn]] static void refuse(const ir::Node& node, const char* what) {
        throw Refused{fmt::format("{} '{}' {}", node.opType(), node.label(), what)};
    }

    /// The axis of a value that is the stream's channels, and nothing but them.
    std::optional<std::size_t> channelAxis(const ir::Value& value) const {
        const auto* axes = view_.axes->of(&value);
        if (axes == nullptr) return std::nullopt;
        std::optional<std::size_t> found;
        for (std::size_t axis = 0; axis < axes->size(); ++axis) {
            const auto leaves = view_.axes->store->leaves((*axes)[axis]);
            if (std::find(leaves.begin(), leaves.end(), leaf_) == leaves.end()) continue;
            if (found || leaves.size() > 1) return std::nullopt;
            found = axis;
        }
        return found;
    }
    bool isLast(const ir::Value& value) const { return channelAxis(value) == view_.axes->of(&value)->size() - 1; }
    static bool isScalar(const ir::Value* value) {
        return value != nullptr && value->constant() != nullptr && value->constant()->size() == 1;
    }

    void lookAt(ir::Value& value) {
        if (value.isGraphOutput()) throw Refused{fmt::format("it is an output of the model ('{}')", value.name())};
        if (value.dtype() != DType::float32) throw Refused{fmt::format("'{}' is not float32", value.name())};
        if (!channelAxis(value)) throw Refused{fmt::format("the channels of '{}' are mixed with others", value.name())};
        if (value.producer() == nullptr) throw Refused{fmt::format("it is an input of the model ('{}')", value.name())};
        lookAtProducer(*value.producer());
        for (const ir::Use& use : value.uses()) lookAtReader(value, use);
    }

    void lookAtProducer(ir::Node& node) {
        if (const auto found = byNode_.find(&node); found != byNode_.end()) return lookAtWriter(*found->second);
        if (node.is("Add") || node.is("Concat")) {
            for (ir::Value* input : node.inputs()) pushSource(node, input);
            return;
        }
        if (movesRows(node)) return pushSource(node, node.input(0));
        if ((node.is("Mul") || node.is("Div")) && isScalar(node.input(1))) return pushSource(node, node.input(0));
        refuse(node, "writes to it and is no linear layer");
    }

    void lookAtWriter(const Site& site) {
        const ir::Node& node = *site.node;
        const Tensor* weight = site.weight == nullptr ? nullptr : site.weight->constant();
        const bool isTable = isEmbedding(site);
        const bool isPlain = node.is("MatMul") || node.is("Conv") || (isTable && node.attributeInt("axis", 0) == 0) ||
                             (node.is("Gemm") && node.attributeInt("transA", 0) == 0);
        const bool isOwn = weight != nullptr && site.operand == site.weight && weight->dtype() == DType::float32;
        if (isTable && (!isOwn || !isPlain)) return plan_.lookups.push_back(site.output);
        if (!isPlain || !isOwn || (!isTable && site.input != node.input(0)))
            refuse(node, "has no float32 weight of its own to centre");
        centre(node, *site.weight, site.outAxis);
        if ((node.is("Gemm") || node.is("Conv")) && node.inputs().size() > 2 && node.input(2) != nullptr)
            pushSource(node, node.input(2));
    }

    /// A computed value, or a constant, that is part of the stream.
    void pushSource(const ir::Node& reader, ir::Value* value) {
        if (value == nullptr || value->constant() == nullptr) {
            if (value == nullptr) refuse(reader, "has an input that is left out");
            return push(value);
        }
        const auto axis = channelAxisOfConstant(reader, *value);
        if (value->dtype() != DType::float32 || !axis)
            refuse(reader, "adds a constant to it that is not one number a channel");
        centre(reader, *value, *axis);
    }

    /// Shared vectors have axes of their own at every use. A sum has them along its last axis, whatever their size.
    std::optional<std::size_t> channelAxisOfConstant(const ir::Node& reader, const ir::Value& value) const {
        if (value.constant()->rank() != 1 || value.constant()->size() != view_.hiddenSize) return channelAxis(value);
        if (reader.is("Add") && !isLast(*reader.output())) return std::nullopt;
        return 0;
    }

    void centre(const ir::Node& node, ir::Value& constant, std::size_t axis) {
        const auto [known, isNew] = plan_.constants.try_emplace(&constant, axis);
        if (!isNew && known->second != axis) refuse(node, "reads a constant that is another axis of it elsewhere");
        readers_[&constant].insert(&node);
    }

    void lookAtReader(const ir::Value& value, const ir::Use& use) {
        if (use.kind != ir::UseKind::input) throw Refused{"it is read inside a sub-graph"};
        ir::Node& node = *use.node;
        if (node.is("Shape")) return;
        if (node.is("LayerNormalization") && use.index == 0) return lookAtNorm(value, node);
        if (isMeanOverLast(node) && isLast(value)) return lookAtMean(value, node);
        if (takesMeanAway(node) && node.input(0) == &value) {
            norms_[node.position()] = &node;
            return;
        }
        if (node.is("Add") || node.is("Concat") || (movesRows(node) && use.index == 0)) return push(node.output());
        if ((node.is("Mul") || node.is("Div")) && use.index == 0 && isScalar(node.input(1))) return push(node.output());
        refuse(node, "reads it with its mean");
    }

    void lookAtNorm(const ir::Value& value, ir::Node& node) {
        if (!isLast(value)) refuse(node, "normalizes more than the channels");
        if (const auto reason = normRefusal(node, view_.axes->of(&value)->size())) throw Refused{*reason};
        norms_[node.position()] = &node;
    }

    /// All that reads the mean takes it away again.
    static void lookAtMean(const ir::Value& value, const ir::Node& mean) {
        for (const ir::Use& use : mean.output()->uses())
            if (use.kind != ir::UseKind::input || !takesMeanAway(*use.node) || use.node->input(0) != &value)
                refuse(mean, "is used for more than taking the mean away");
    }

    /// Constants that something outside the walk reads keep their means: tables are centred behind the look-up.
    void takeTiedTablesOut() {
        for (auto item = plan_.constants.begin(); item != plan_.constants.end();) {
            const auto& uses = item->first->uses();
            const auto& known = readers_[item->first];
            const bool isTied =
                item->first->isGraphOutput() || std::any_of(uses.begin(), uses.end(), [&](const ir::Use& use) {
                    return use.kind != ir::UseKind::input || !known.contains(use.node);
                });
            if (!isTied) {
                ++item;
                continue;
            }
            for (const ir::Node* reader : known) {
                const auto site = byNode_.find(reader);
                if (site == byNode_.end() || !isEmbedding(*site->second))
                    refuse(*reader, "adds a constant to it that is used elsewhere too");
                plan_.lookups.push_back(site->second->output);
            }
            item = plan_.constants.erase(item);
        }
        const auto before = [](const ir::Value* a, const ir::Value* b) {
            return a->producer()->position() < b->producer()->position();
        };
        std::sort(plan_.lookups.begin(), plan_.lookups.end(), before);
        for (const ir::Value* rows : plan_.lookups)
            if (!isLast(*rows)) refuse(*rows->producer(), "looks up what are no rows of channels");
    }

    const analysis::TransformerView& view_;
    analysis::AtomId leaf_;
    std::map<const ir::Node*, const Site*> byNode_;
    std::set<const ir::Value*> seen_;
    std::vector<ir::Value*> queue_;
    std::map<const ir::Value*, std::set<const ir::Node*>> readers_;
    std::map<std::size_t, ir::Node*> norms_;
    CentredStream plan_;
};

}  // namespace

bool takesMeanAway(const ir::Node& node) {
    if (!node.is("Sub")) return false;
    const ir::Value* mean = node.input(1);
    return mean != nullptr && mean->producer() != nullptr && isMeanOverLast(*mean->producer()) &&
           mean->producer()->input(0) == node.input(0);
}

std::optional<std::string> normRefusal(const ir::Node& norm, std::size_t rank) {
    if (!norm.is("LayerNormalization")) return std::nullopt;
    const auto because = [&](const char* what) { return fmt::format("{} '{}' {}", norm.opType(), norm.label(), what); };
    const std::int64_t axis = norm.attributeInt("axis", -1);
    if (axis != -1 && axis != static_cast<std::int64_t>(rank) - 1) return because("normalizes more than the channels");
    for (std::size_t i = 1; i < norm.outputs().size(); ++i)
        if (norm.output(i) != nullptr && !norm.output(i)->uses().empty())
            return because("has a second result that is used");
    return std::nullopt;
}

CentredStream centredStream(const analysis::TransformerView& view, analysis::AtomId leaf, ir::Value& start) {
    return Walk(view, leaf).run(start);
}

}  // namespace tcompress::passes
