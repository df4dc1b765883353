#include "lib/analysis/sparse_storage.h"

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

/// Elements of the shape that the values are given.
std::int64_t elementsBehind(const ir::Value* values) {
    for (const ir::Use& use : values->uses()) {
        if (use.node == nullptr || use.index != 0) continue;
        if (use.node->is("Slice")) return elementsBehind(use.node->output());
        const ir::Value* shape = use.node->is("Reshape") ? use.node->input(1) : nullptr;
        if (shape != nullptr && shape->constant() != nullptr) return elementCount(toInt64(*shape->constant()));
    }
    return 0;
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
        storage.codes->constant() == nullptr)
        return std::nullopt;
    storage.elements = elementsBehind(gather.output());
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
