#include "passes/support/scaling_paths.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>

namespace tcompress::passes {
namespace {

using analysis::AtomId;
using analysis::Axis;
using analysis::AxisStore;
using analysis::LinearContraction;
using analysis::ModelAxes;
using analysis::Site;
using analysis::TransformerView;

/// Operators whose output is their first input in other places, or positively homogeneous in it.
constexpr const char* kPassing[] = {"Reshape", "Transpose", "Identity", "Unsqueeze", "Squeeze",
                                    "Expand",  "Flatten",   "Split",    "Slice",     "Relu"};

bool isOwnVector(const ir::Value& value, std::int64_t size) {
    return value.constant() != nullptr && value.constant()->dtype() == DType::float32 &&
           value.constant()->size() == size && value.uses().size() == 1 &&
           value.uses().front().kind == ir::UseKind::input;
}

/// A product with a float32 matrix that nothing else reads.
bool isPlain(const Site& site) {
    const ir::Node& node = *site.node;
    const bool plainGemm = node.is("Gemm") && node.attributeFloat("alpha", 1) == 1 &&
                           node.attributeFloat("beta", 1) == 1 && node.attributeInt("transA", 0) == 0;
    return (node.is("MatMul") || plainGemm) && site.input == node.input(0) && site.operand == site.weight &&
           site.weight->constant() != nullptr && site.weight->constant()->dtype() == DType::float32 &&
           site.weight->constant()->rank() == 2 && site.weight->uses().size() == 1;
}

/// A row-major range of leaves, each once.
std::optional<std::vector<AtomId>> plainLeaves(const AxisStore& store, const Axis& axis) {
    std::vector<AtomId> leaves = store.leaves(axis);
    std::int64_t size = 1;
    for (const AtomId leaf : leaves) size *= store.leafSize(leaf);
    const std::set<AtomId> once(leaves.begin(), leaves.end());
    if (size != store.size(axis) || once.size() != leaves.size()) return std::nullopt;
    return leaves;
}

/// Where each index of `axis` lies in `part`, whose leaves are among its own.
std::vector<std::int64_t> placesIn(const AxisStore& store, const std::vector<AtomId>& part,
                                   const std::vector<AtomId>& axis, std::int64_t offset) {
    std::map<AtomId, std::int64_t> stride;
    std::int64_t step = 1;
    for (auto leaf = part.rbegin(); leaf != part.rend(); ++leaf) {
        stride[*leaf] = step;
        step *= store.leafSize(*leaf);
    }
    std::vector<std::int64_t> places{offset};
    for (const AtomId leaf : axis) {
        std::vector<std::int64_t> finer;
        finer.reserve(places.size() * static_cast<std::size_t>(store.leafSize(leaf)));
        const auto found = stride.find(leaf);
        for (const std::int64_t place : places)
            for (std::int64_t i = 0; i < store.leafSize(leaf); ++i)
                finer.push_back(place + (found == stride.end() ? 0 : i * found->second));
        places = std::move(finer);
    }
    return places;
}

/// The channel map of a pair, from its axes; nothing when they are not related so.
struct Relation {
    std::vector<std::int64_t> channels;
    std::set<AtomId> leaves;  ///< of the producer's channels
};
std::optional<Relation> relate(const AxisStore& store, const LinearContraction& producer,
                               const LinearContraction& consumer) {
    const auto inputs = plainLeaves(store, consumer.in);
    if (!inputs) return std::nullopt;
    const std::set<AtomId> wanted(inputs->begin(), inputs->end());
    std::optional<Relation> relation;
    std::int64_t offset = 0;
    for (const Axis& part : store.parts(producer.out)) {
        const auto leaves = plainLeaves(store, part);
        // Queries beside the values share their heads, but not what is in them.
        const bool within = leaves && !leaves->empty() &&
                            std::all_of(leaves->begin(), leaves->end(), [&](AtomId leaf) { return wanted.contains(leaf); });
        if (within) {
            // Two parts with the same channels: up and gate in one matrix.
            if (relation) return std::nullopt;
            relation = Relation{placesIn(store, *leaves, *inputs, offset), {leaves->begin(), leaves->end()}};
        }
        offset += store.size(part);
    }
    return relation;
}

/// Whether the scaled channels reach the consumer and nothing else, through operators that factors commute with.
class Walk {
  public:
    Walk(const ModelAxes& axes, const std::set<AtomId>& leaves, const Site& producer, const Site& consumer)
        : axes_(axes), leaves_(leaves), producer_(producer), consumer_(consumer) {}

    bool arrives() {
        const ir::Value* start = producer_.output;
        if (producer_.biasNode != nullptr) {
            const bool onlyBias =
                producer_.biasNode->is("Add") &&
                std::all_of(start->uses().begin(), start->uses().end(), [&](const ir::Use& use) {
                    return use.kind == ir::UseKind::input && use.node == producer_.biasNode;
                });
            if (!onlyBias) return false;
            start = producer_.biasNode->output();
        }
        reach(start);
        while (!open_.empty()) {
            const ir::Value* value = open_.back();
            open_.pop_back();
            for (const ir::Use& use : value->uses())
                if (use.kind != ir::UseKind::input || !passes(*value, use)) return false;
        }
        return arrived_ && std::none_of(unscaled_.begin(), unscaled_.end(),
                                        [&](const ir::Value* value) { return scaled_.contains(value); });
    }

  private:
    void reach(const ir::Value* value) {
        if (scaled_.insert(value).second) open_.push_back(value);
    }

    std::set<AtomId> scaledLeaves(const Axis& axis) const {
        std::set<AtomId> found;
        for (const AtomId leaf : axes_.store->leaves(axis))
            if (leaves_.contains(leaf)) found.insert(leaf);
        return found;
    }
    /// Whether the axes of a value are those of the scaled channels: all of them, or it is another part of a Split.
    bool holdsAll(const std::vector<Axis>& axes) const {
        std::set<AtomId> found;
        for (const Axis& axis : axes) found.merge(scaledLeaves(axis));
        return found == leaves_;
    }

    bool passes(const ir::Value& value, const ir::Use& use) {
        const ir::Node& node = *use.node;
        if (node.is("Shape")) return true;
        if (use.node == consumer_.node) {
            arrived_ = use.index == 0;
            return arrived_;
        }
        if (node.is("Mul") || (node.is("Div") && use.index == 0)) {
            unscaled_.push_back(node.input(1 - use.index));
        } else if (node.is("MatMul")) {
            const std::vector<Axis>* axes = axes_.of(&value);
            if (axes == nullptr || axes->size() < 2) return false;
            if (!scaledLeaves((*axes)[axes->size() - (use.index == 0 ? 1 : 2)]).empty()) return false;
            if (node.input(1 - use.index)->constant() != nullptr) return false;
            unscaled_.push_back(node.input(1 - use.index));
        } else if (use.index != 0 || std::none_of(std::begin(kPassing), std::end(kPassing),
                                                  [&](const char* type) { return node.is(type); })) {
            return false;
        }
        for (const ir::Value* output : node.outputs()) {
            const std::vector<Axis>* axes = output == nullptr ? nullptr : axes_.of(output);
            if (axes == nullptr) return false;
            if (holdsAll(*axes)) reach(output);
        }
        return true;
    }

    const ModelAxes& axes_;
    const std::set<AtomId>& leaves_;
    const Site& producer_;
    const Site& consumer_;
    std::vector<const ir::Value*> open_;
    std::set<const ir::Value*> scaled_;
    std::vector<const ir::Value*> unscaled_;  ///< what scaled values are multiplied with
    bool arrived_ = false;
};

}  // namespace

bool ScalingPath::isOneToOne() const {
    const std::set<std::int64_t> once(channels.begin(), channels.end());
    return once.size() == channels.size();
}

std::vector<ScalingPath> scalingPaths(const TransformerView& view) {
    const ModelAxes& axes = *view.axes;
    std::map<const ir::Node*, const LinearContraction*> contractions;
    for (const LinearContraction& linear : axes.linears) contractions.emplace(linear.node, &linear);
    std::vector<std::pair<const Site*, const LinearContraction*>> plain;
    for (const Site& site : view.sites)
        if (const auto found = contractions.find(site.node); found != contractions.end() && isPlain(site))
            plain.emplace_back(&site, found->second);
    std::vector<ScalingPath> paths;
    std::set<const Site*> producers;
    for (const auto& [consumer, consuming] : plain)
        for (const auto& [producer, producing] : plain) {
            if (producer == consumer || producers.contains(producer)) continue;
            if (producer->bias != nullptr && !isOwnVector(*producer->bias, producer->outFeatures)) continue;
            auto relation = relate(*axes.store, *producing, *consuming);
            if (!relation || !Walk(axes, relation->leaves, *producer, *consumer).arrives()) continue;
            producers.insert(producer);
            paths.push_back({producer, consumer, std::move(relation->channels)});
            break;
        }
    return paths;
}

}  // namespace tcompress::passes
