#include "passes/store_sparse/stored_constants.h"

#include "lib/pipeline/records.h"

namespace tcompress::passes {
namespace {

/// What the nodes that put the zeros of one constant back take.
constexpr std::int64_t kNodeBytes = 1024;

/// Why a computed value cannot take the constant's place.
std::string refusal(const ir::Value& value) {
    for (const ir::Use& use : value.uses()) {
        if (use.kind == ir::UseKind::captured) return "it is used inside a sub-graph";
        if (use.kind == ir::UseKind::graphOutput) return "it is an output of the model";
    }
    return {};
}

}  // namespace

SparseOutcome storeWithoutZeros(ir::Model& model, const std::vector<ir::Value*>& constants, SparseStorageKind kind,
                                std::string_view pass) {
    SparseOutcome outcome;
    const auto before = static_cast<std::int64_t>(pipeline::predictedFileBytes(model));
    ir::Model whole = model.clone();
    ir::Edit edit(model, std::string(pass));
    SparseWriter writer(edit);
    for (ir::Value* value : constants) {
        const Tensor tensor = *value->constant();
        StoredConstant stored{value->name(), tensor.dtype(), tensor.shape(), static_cast<std::int64_t>(tensor.sizeBytes()), {}};
        if (stored.wholeBytes < kNodeBytes) continue;
        std::string reason = refusal(*value);
        if (const auto form = reason.empty() ? sparseForm(tensor, kind) : std::nullopt;
            form && form->bytes + kNodeBytes < stored.wholeBytes) {
            edit.replaceAllUses(value, writer.store(value->name(), tensor, *form));
            stored.form = *form;
            outcome.stored.push_back(std::move(stored));
            continue;
        }
        if (reason.empty()) reason = "without its zeros it would not be smaller";
        outcome.left.push_back({value->name(), std::move(reason)});
    }
    if (edit.empty()) return outcome;
    edit.commit();
    outcome.bytesSaved = before - static_cast<std::int64_t>(pipeline::predictedFileBytes(model));
    if (outcome.bytesSaved > 0) return outcome;
    model = std::move(whole);
    for (const StoredConstant& stored : outcome.stored)
        outcome.left.push_back({stored.name, "the file would not be smaller"});
    outcome.stored.clear();
    return outcome;
}

std::int64_t sparseFileBytes(const ir::Model& model) {
    ir::Model copy = model.clone();
    std::vector<ir::Value*> constants;
    for (ir::Value* value : copy.graph().values())
        if (value->constant() != nullptr) constants.push_back(value);
    storeWithoutZeros(copy, constants, SparseStorageKind::automatic, "store-sparse");
    return static_cast<std::int64_t>(pipeline::predictedFileBytes(copy));
}

}  // namespace tcompress::passes
