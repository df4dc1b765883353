// Walks over the graph that recognition is made of. A walk follows tensors that carry a leaf, not operator
// names.

#include <algorithm>
#include <deque>

#include "lib/analysis/view_builder.h"

namespace tcompress::analysis {

bool intersects(const LeafSet& a, const LeafSet& b) {
    return std::any_of(a.begin(), a.end(), [&](AtomId leaf) { return b.count(leaf) != 0; });
}

bool contains(const LeafSet& whole, const LeafSet& part) {
    return std::includes(whole.begin(), whole.end(), part.begin(), part.end());
}

LeafSet intersection(const LeafSet& a, const LeafSet& b) {
    LeafSet both;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::inserter(both, both.end()));
    return both;
}

LeafSet ViewBuilder::leavesOf(const Axis& axis) const {
    const std::vector<AtomId> list = store_.leaves(axis);
    return {list.begin(), list.end()};
}

bool ViewBuilder::carries(const ir::Value* value, const LeafSet& leaves) const {
    const std::vector<Axis>* own = axes_->of(value);
    if (own == nullptr) return false;
    return std::any_of(own->begin(), own->end(), [&](const Axis& axis) {
        const std::vector<AtomId> below = store_.leaves(axis);
        return std::any_of(below.begin(), below.end(), [&](AtomId leaf) { return leaves.count(leaf) != 0; });
    });
}

std::vector<std::size_t> ViewBuilder::producingLinears(const ir::Value* value, const LeafSet& wanted) const {
    std::set<std::size_t> found;
    ValueSet seen;
    std::vector<const ir::Value*> open{value};
    while (!open.empty()) {
        const ir::Value* at = open.back();
        open.pop_back();
        if (!seen.insert(at).second) continue;
        bool made = false;
        if (const auto here = linearsByOutput_.find(at); here != linearsByOutput_.end()) {
            for (std::size_t linear : here->second) {
                if (!intersects(linearOut_[linear], wanted)) continue;
                found.insert(linear);
                made = true;
            }
        }
        const ir::Node* node = at->producer();
        if (made || node == nullptr || fusedNodes_.count(node) != 0 || node->is("Shape")) continue;
        for (const ir::Value* input : node->inputs()) {
            if (input != nullptr && !axes_->constant(input) && carries(input, wanted)) open.push_back(input);
        }
    }
    return {found.begin(), found.end()};
}

std::vector<std::size_t> ViewBuilder::consumingLinears(const ir::Value* value, const LeafSet& wanted) const {
    std::set<std::size_t> found;
    ValueSet seen;
    std::vector<const ir::Value*> open{value};
    while (!open.empty()) {
        const ir::Value* at = open.back();
        open.pop_back();
        if (!seen.insert(at).second) continue;
        bool used = false;
        if (const auto here = linearsByInput_.find(at); here != linearsByInput_.end()) {
            for (std::size_t linear : here->second) {
                if (!intersects(linearIn_[linear], wanted)) continue;
                found.insert(linear);
                used = true;
            }
        }
        if (used) continue;
        for (const ir::Use& use : at->uses()) {
            if (use.node == nullptr || use.node->is("Shape")) continue;
            for (const ir::Value* output : use.node->outputs()) {
                if (output != nullptr && carries(output, wanted)) open.push_back(output);
            }
        }
    }
    return {found.begin(), found.end()};
}

ValueSet ViewBuilder::streamBehind(const ir::Value* value) const {
    ValueSet seen;
    std::vector<const ir::Value*> open{value};
    while (!open.empty()) {
        const ir::Value* at = open.back();
        open.pop_back();
        if (!seen.insert(at).second) continue;
        const ir::Node* node = at->producer();
        if (node == nullptr || isProduct(*node)) continue;
        for (const ir::Value* input : node->inputs()) {
            if (input != nullptr && !axes_->constant(input) && carries(input, residual_))
                open.push_back(input);
        }
    }
    return seen;
}

const ir::Value* ViewBuilder::source(const ir::Value* value) const {
    static const std::unordered_set<std::string> transparent = {
        "Identity", "Cast", "Dropout", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"};
    while (value->producer() != nullptr && transparent.count(value->producer()->opType()) != 0 &&
           value->producer()->input(0) != nullptr) {
        value = value->producer()->input(0);
    }
    return value;
}

std::optional<std::size_t> ViewBuilder::linearBehind(const ir::Value* value) const {
    while (true) {
        value = source(value);
        if (const auto made = linearsByOutput_.find(value); made != linearsByOutput_.end()) {
            return made->second.front();
        }
        const ir::Node* node = value->producer();
        if (node == nullptr || !(node->is("Mul") || node->is("Add"))) return {};
        // The other operand of a scale or bias is smaller than the data, or constant.
        const auto a = axes_->shapes.shape(*node->input(0)), b = axes_->shapes.shape(*node->input(1));
        if (!a || !b) return {};
        const std::size_t data = elementCount(*a) >= elementCount(*b) ? 0 : 1;
        const bool neutral =
            axes_->constant(node->input(1 - data)) || (node->is("Mul") && (data == 0 ? b : a)->size() <= 1);
        if (!neutral) return {};
        value = node->input(data);
    }
}

void ViewBuilder::findFactors() {
    const std::size_t count = axes_->linears.size();
    factorBefore_.assign(count, {});
    factorBehind_.assign(count, {});
    std::vector<int> behind(count, 0);
    for (std::size_t i = 0; i < count; ++i) {
        const std::optional<std::size_t> before = linearBehind(axes_->linears[i].input);
        if (!before || linearOut_[*before] != linearIn_[i] || intersects(linearIn_[i], residual_)) continue;
        factorBefore_[i] = before;
        factorBehind_[*before] = i;
        ++behind[*before];
    }
    // What several layers read is a factor of each of them, but none of them is its continuation.
    for (std::size_t i = 0; i < count; ++i) {
        if (behind[i] > 1) factorBehind_[i].reset();
    }
}

std::size_t ViewBuilder::firstFactor(std::size_t linear) const {
    while (factorBefore_[linear]) linear = *factorBefore_[linear];
    return linear;
}

std::size_t ViewBuilder::lastFactor(std::size_t linear) const {
    while (factorBehind_[linear]) linear = *factorBehind_[linear];
    return linear;
}

std::size_t ViewBuilder::linearOfSite(std::size_t site) const {
    const auto found = std::find(siteOfLinear_.begin(), siteOfLinear_.end(), site);
    TCOMPRESS_CHECK(found != siteOfLinear_.end(), "a linear layer behind the site");
    return static_cast<std::size_t>(found - siteOfLinear_.begin());
}

ir::Value* ViewBuilder::inputOf(std::size_t site) const {
    return axes_->linears[firstFactor(linearOfSite(site))].input;
}

ir::Value* ViewBuilder::outputOf(std::size_t site) const {
    return axes_->linears[lastFactor(linearOfSite(site))].output;
}

}  // namespace tcompress::analysis
