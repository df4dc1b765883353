#include "lib/analysis/sparse_storage.h"

#include <algorithm>

#include "lib/tensor/tensor.h"

namespace tcompress::analysis {
namespace {

/// The node that computes the value, when it is of this operator.
const ir::Node* producerOf(const ir::Value* value, std::string_view opType) {
    return value != nullptr && value->producer() != nullptr && value->producer()->is(opType) ? value->producer()
                                                                                            : nullptr;
}

/// The value before the node of this operator that computes it; the value itself when another does.
const ir::Value* before(const ir::Value* value, std::string_view opType) {
    const ir::Node* node = producerOf(value, opType);
    return node == nullptr ? value : node->input(0);
}

/// The shape that a Reshape gives: within a run the types of new nodes are not known yet, what they were asked for is.
std::optional<Shape> shapeOf(const ir::Node& reshape) {
    if (auto known = reshape.output()->shape()) return known;
    const ir::Value* target = reshape.input(1);
    if (target == nullptr || target->constant() == nullptr) return std::nullopt;
    return toInt64(*target->constant());
}

/// The shape that the values are given behind any slices; nothing when it is not known.
std::optional<Shape> shapeBehind(const ir::Value* values) {
    while (values != nullptr) {
        const ir::Value* sliced = nullptr;
        for (const ir::Use& use : values->uses()) {
            if (use.node == nullptr || use.index != 0 || use.node->output() == nullptr) continue;
            if (use.node->is("Reshape")) return shapeOf(*use.node);
            if (use.node->is("Slice")) sliced = use.node->output();
        }
        values = sliced;
    }
    return std::nullopt;
}

/// Elements of a shape that a file states; nothing when they are too many to count, 0 for a dimension that is not known.
std::optional<std::int64_t> countOf(const Shape& shape) {
    if (std::any_of(shape.begin(), shape.end(), [](std::int64_t size) { return size < 0; })) return 0;
    std::int64_t count = 1;
    for (const std::int64_t size : shape)
        if (__builtin_mul_overflow(count, size, &count)) return std::nullopt;
    return count;
}

}  // namespace

std::optional<SparseStorage> sparseStorage(const ir::Node& gather) {
    if (!gather.is("Gather") || gather.output() == nullptr) return std::nullopt;
    SparseStorage storage;
    storage.values = gather.input(0);
    if (storage.values == nullptr || storage.values->constant() == nullptr || storage.values->constant()->rank() != 1)
        return std::nullopt;
    const ir::Node* product = producerOf(gather.input(1), "Mul");
    const ir::Node* sum = product == nullptr ? nullptr : producerOf(product->input(0), "CumSum");
    if (sum == nullptr || product->input(1) != sum->input(0)) return std::nullopt;
    const ir::Node* marks = producerOf(before(before(sum->input(0), "Reshape"), "Cast"), "Gather");
    if (marks == nullptr) return std::nullopt;
    storage.patterns = marks->input(0);
    storage.codes = before(marks->input(1), "Cast");
    if (storage.patterns == nullptr || storage.patterns->constant() == nullptr || storage.codes == nullptr ||
        storage.codes->constant() == nullptr || storage.patterns->constant()->rank() != 2)
        return std::nullopt;
    const auto elements = countOf(shapeBehind(gather.output()).value_or(Shape{0}));
    const auto held = countOf({storage.codes->constant()->size(), storage.patterns->constant()->shape()[1]});
    if (!elements || !held || *elements > *held) return std::nullopt;
    storage.elements = *elements;
    return storage;
}

bool restoresSparse(const ir::Node& reshape) {
    if (!reshape.is("Reshape")) return false;
    const ir::Node* gather = producerOf(before(reshape.input(0), "Slice"), "Gather");
    return gather != nullptr && sparseStorage(*gather);
}

std::optional<SparseStorage> sparseStorageBehind(const ir::Value* operand) {
    while (operand != nullptr && operand->producer() != nullptr) {
        const ir::Node& node = *operand->producer();
        if (node.is("Gather")) return sparseStorage(node);
        if (!(node.is("Reshape") || node.is("Slice") || node.is("Transpose") || node.is("Identity") || node.is("Cast") ||
              node.is("DequantizeLinear")))
            return std::nullopt;
        operand = node.input(0);
    }
    return std::nullopt;
}

}  // namespace tcompress::analysis
