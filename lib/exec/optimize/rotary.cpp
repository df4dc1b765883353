// Rotary position embedding spelled out:
//   Add(Mul(x, cos), Mul(Concat(Neg(Slice(x, h:)), Slice(x, :h)), sin))      along the last axis
// becomes one operator.

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

std::optional<std::int64_t> onlyEntry(const Rewriter& rewriter, ValueId value) {
    const Tensor* constant = rewriter.constant(value);
    if (!constant || constant->size() != 1 || !isInteger(constant->dtype())) return std::nullopt;
    return toInt64(*constant).front();
}

bool isLastAxis(const Rewriter& rewriter, ValueId value, std::int64_t axis) {
    if (axis == -1) return true;
    if (const PlanNode* transpose = rewriter.producer(value, "Transpose")) {
        const auto permutation = Attributes(*transpose->proto).integers("perm");
        if (permutation) return axis == static_cast<std::int64_t>(permutation->size()) - 1;
    }
    const ir::Value* source = rewriter.graph().value(value).source;
    const auto shape = source ? source->shape() : std::nullopt;
    return shape && axis == static_cast<std::int64_t>(shape->size()) - 1;
}

/// x[start:end] along the last axis in steps of one.
struct Part {
    ValueId x = kNoValue;
    std::int64_t start = 0, end = 0;
};
std::optional<Part> partOf(const Rewriter& rewriter, ValueId value) {
    const PlanNode* slice = rewriter.producer(value, "Slice");
    if (!slice || slice->inputs.size() < 4) return std::nullopt;
    const auto start = onlyEntry(rewriter, slice->input(1));
    const auto end = onlyEntry(rewriter, slice->input(2));
    const auto axis = onlyEntry(rewriter, slice->input(3));
    const auto step = slice->input(4) == kNoValue ? 1 : onlyEntry(rewriter, slice->input(4));
    if (!start || !end || !axis || step != 1 || !isLastAxis(rewriter, slice->input(0), *axis)) return std::nullopt;
    return Part{slice->input(0), *start, *end};
}

/// x and h when `value` is −x[h:] followed by x[:h].
struct Rotated {
    ValueId x = kNoValue;
    std::int64_t split = 0;
};
std::optional<Rotated> rotated(const Rewriter& rewriter, ValueId value) {
    constexpr std::int64_t kToTheEnd = 0x7fffffff;  // what exporters write is at least this
    const PlanNode* joined = rewriter.producer(value, "Concat");
    if (!joined || joined->inputs.size() != 2 || !rewriter.vanishes(value)) return std::nullopt;
    const PlanNode* negated = rewriter.producer(joined->input(0), "Neg");
    const auto tail = negated ? partOf(rewriter, negated->input(0)) : std::nullopt;
    const auto head = partOf(rewriter, joined->input(1));
    if (!tail || !head || tail->x != head->x || head->start != 0 || head->end <= 0 || tail->start != head->end ||
        tail->end < kToTheEnd || !isLastAxis(rewriter, head->x, Attributes(*joined->proto).integer("axis", 0))) {
        return std::nullopt;
    }
    return Rotated{head->x, head->end};
}

void fuse(Rewriter& rewriter, PlanNode& add) {
    for (std::size_t i = 0; i < 2; ++i) {
        const PlanNode* plain = rewriter.producer(add.input(i), "Mul");
        const PlanNode* turned = rewriter.producer(add.input(1 - i), "Mul");
        if (!plain || !turned || !rewriter.vanishes(add.input(0)) || !rewriter.vanishes(add.input(1))) return;
        for (std::size_t j = 0; j < 2; ++j) {
            const auto found = rotated(rewriter, turned->input(j));
            if (!found || rewriter.graph().value(found->x).dtype != DType::float32) continue;
            const bool first = plain->input(0) == found->x;
            if (!first && plain->input(1) != found->x) continue;
            PlanNode fused = rewriter.make(kFusedDomain, "RotateHalves",
                                           {found->x, plain->input(first ? 1 : 0), turned->input(1 - j)}, add.outputs, add.label());
            setAttribute(protoOf(fused), "split", found->split);
            rewriter.replace(add, std::move(fused));
            return;
        }
    }
}

}  // namespace

void fuseRotary(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("Add")) fuse(rewriter, node);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
