// Constants behind operands, and vectors that exporters merged.

#include <algorithm>
#include <unordered_set>

#include "lib/analysis/axes.h"
#include "lib/analysis/sparse_storage.h"
#include "lib/ir/edit.h"

namespace tcompress::analysis {

ir::Value* storedTensor(const ir::Value* operand) {
    const ir::Value* found = nullptr;
    std::vector<const ir::Value*> open{operand};
    std::unordered_set<const ir::Value*> seen;
    while (!open.empty()) {
        const ir::Value* value = open.back();
        open.pop_back();
        if (value == nullptr || !seen.insert(value).second) continue;
        if (const Tensor* data = value->constant()) {
            // Scales, zero points, permutations and target shapes are vectors; the weight is the one with two
            // real axes.
            const auto wide = std::count_if(data->shape().begin(), data->shape().end(),
                                            [](std::int64_t d) { return d > 1; });
            if (wide < 2 && value != operand) continue;
            if (found != nullptr) return nullptr;
            found = value;
        } else if (value->producer() != nullptr) {
            // The matrix among its constants is the table of patterns, not the weight.
            if (sparseStorage(*value->producer())) return nullptr;
            for (const ir::Value* input : value->producer()->inputs()) open.push_back(input);
        }
    }
    return const_cast<ir::Value*>(found);
}

bool isSharedVector(const ir::Value& value) {
    const Tensor* data = value.constant();
    if (data == nullptr || data->size() < 2 || !isFloatingPoint(data->dtype()) || value.uses().size() < 2)
        return false;
    const auto& uses = value.uses();
    if (std::any_of(uses.begin(), uses.end(),
                    [](const ir::Use& use) { return use.kind != ir::UseKind::input; }))
        return false;
    const Shape& shape = data->shape();
    return std::count_if(shape.begin(), shape.end(), [](std::int64_t d) { return d > 1; }) == 1;
}

int unshareVectors(ir::Model& model) {
    int copies = 0;
    ir::Edit edit(model, "unshare");
    for (ir::Value* value : model.graph().values()) {
        if (!isSharedVector(*value)) continue;
        for (std::size_t i = 1; i < value->uses().size(); ++i) {
            const ir::Use use = value->uses()[i];
            edit.replaceInput(use.node, use.index, edit.addInitializer(value->name(), *value->constant()));
            ++copies;
        }
    }
    if (copies > 0) edit.commit();
    return copies;
}

}  // namespace tcompress::analysis
