// Shape arithmetic whose result is known before any input: a head size taken from Shape(k)[-1], a scale made of it. Entries
// of shapes are followed one by one, so that [batch, 12, rows, 32] gives its second and fourth entry although the others are
// not known.

#include <algorithm>

#include "lib/exec/attributes.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

using Entries = std::vector<std::optional<std::int64_t>>;

class KnownShapes {
  public:
    KnownShapes(const Rewriter& rewriter, const PlanGraph& graph) : rewriter_(rewriter), graph_(graph) {}

    /// Elements of a small integer vector or scalar.
    std::optional<Entries> elements(ValueId value, int depth = 0) const {
        if (const Tensor* constant = rewriter_.constant(value)) {
            if (constant->rank() > 1 || constant->size() > 16 || !isInteger(constant->dtype())) return std::nullopt;
            Entries entries;
            for (std::int64_t element : toInt64(*constant)) entries.emplace_back(element);
            return entries;
        }
        const PlanNode* node = rewriter_.producer(value);
        if (!node || depth > 12) return std::nullopt;
        if (node->is("Shape") && node->proto->attribute_size() == 0) return shape(node->input(0), depth + 1);
        if (node->is("Squeeze") || node->is("Unsqueeze")) return elements(node->input(0), depth + 1);
        if (node->is("Gather")) return gathered(*node, depth);
        if (node->is("Slice")) return sliced(*node, depth);
        if (node->is("Concat")) return joined(*node, depth);
        return std::nullopt;
    }

    /// Dimensions as declared or inferred, completed by the operators that say them.
    std::optional<Entries> shape(ValueId value, int depth) const {
        Entries entries;
        const ir::Value* source = graph_.value(value).source;
        if (const auto inferred = source ? source->shape() : std::nullopt) {
            for (std::int64_t dimension : *inferred) entries.push_back(dimension < 0 ? std::nullopt : std::optional(dimension));
        }
        const PlanNode* node = rewriter_.producer(value);
        std::optional<Entries> told;
        if (node && node->is("Reshape") && depth <= 12) {
            told = elements(node->input(1), depth + 1);
            if (told) {
                for (auto& entry : *told) entry = entry && *entry > 0 ? entry : std::nullopt;
            }
        } else if (node && node->is("Transpose") && depth <= 12) {
            const auto permutation = Attributes(*node->proto).integers("perm");
            const auto before = shape(node->input(0), depth + 1);
            if (permutation && before && before->size() == permutation->size()) {
                told.emplace();
                for (std::int64_t axis : *permutation) told->push_back((*before)[static_cast<std::size_t>(axis)]);
            }
        }
        if (!told) return entries.empty() ? std::nullopt : std::optional(entries);
        for (std::size_t i = 0; i < entries.size() && i < told->size(); ++i) {
            if (!(*told)[i]) (*told)[i] = entries[i];
        }
        return told;
    }

  private:
    std::optional<Entries> gathered(const PlanNode& node, int depth) const {
        const auto from = elements(node.input(0), depth + 1);
        const auto positions = elements(node.input(1), depth + 1);
        if (!from || !positions) return std::nullopt;
        Entries entries;
        for (const auto& position : *positions) {
            if (!position) return std::nullopt;
            const std::int64_t at = *position < 0 ? *position + static_cast<std::int64_t>(from->size()) : *position;
            if (at < 0 || at >= static_cast<std::int64_t>(from->size())) return std::nullopt;
            entries.push_back((*from)[static_cast<std::size_t>(at)]);
        }
        return entries;
    }

    std::optional<Entries> sliced(const PlanNode& node, int depth) const {
        const auto from = elements(node.input(0), depth + 1);
        const Tensor* starts = rewriter_.constant(node.input(1));
        const Tensor* ends = rewriter_.constant(node.input(2));
        const Tensor* steps = rewriter_.constant(node.input(4));
        if (!from || !starts || !ends || starts->size() != 1 || (steps && toInt64(*steps) != std::vector<std::int64_t>{1})) return std::nullopt;
        const auto size = static_cast<std::int64_t>(from->size());
        const auto clamp = [size](std::int64_t at) { return std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size); };
        const std::int64_t begin = clamp(toInt64(*starts).front());
        const std::int64_t end = std::max(begin, clamp(toInt64(*ends).front()));
        return Entries(from->begin() + begin, from->begin() + end);
    }

    std::optional<Entries> joined(const PlanNode& node, int depth) const {
        Entries entries;
        for (ValueId part : node.inputs) {
            const auto more = elements(part, depth + 1);
            // A part that is not followed is one unknown entry when it was a scalar made a vector.
            if (more) {
                entries.insert(entries.end(), more->begin(), more->end());
            } else if (rewriter_.producer(part, "Unsqueeze")) {
                entries.emplace_back();
            } else {
                return std::nullopt;
            }
        }
        return entries;
    }

    const Rewriter& rewriter_;
    const PlanGraph& graph_;
};

}  // namespace

void foldKnownShapes(PlanGraph& graph) {
    Rewriter rewriter(graph);
    const KnownShapes known(rewriter, graph);
    rewriter.forEach([&](PlanNode& node) {
        if (!(node.is("Gather") || node.is("Slice")) || graph.value(node.output()).kept) return;
        const auto entries = known.elements(node.output());
        const bool complete = entries && std::all_of(entries->begin(), entries->end(), [](const auto& e) { return e.has_value(); });
        if (!complete || graph.value(node.output()).dtype != DType::int64) return;
        std::vector<std::int64_t> elements;
        for (const auto& entry : *entries) elements.push_back(*entry);
        const Tensor* positions = node.is("Gather") ? rewriter.constant(node.input(1)) : nullptr;
        const bool isScalar = positions && positions->rank() == 0;
        graph.value(node.output()).constant =
            isScalar ? Tensor::scalar(elements.front()) : Tensor::of<std::int64_t>({static_cast<std::int64_t>(elements.size())}, elements);
    });
    rewriter.finish();
    eraseConstantNodes(graph);
}

}  // namespace tcompress::exec
