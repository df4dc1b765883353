#include "lib/exec/fitting_executor.h"

#include <algorithm>

#include "lib/exec/run_once.h"

namespace tcompress::exec {

namespace {

/// Smaller ones make no difference.
constexpr std::size_t kWeight = 65536;

bool readsRowsOnly(const ir::Use& use) {
    return use.kind == ir::UseKind::input && use.node->opType().starts_with("Gather") && use.index == 0;
}

}  // namespace

std::uint64_t packedWeightBytes(const ir::Model& model) {
    std::uint64_t bytes = 0;
    for (const ir::Value* value : model.graph().values()) {
        const Tensor* constant = value->constant();
        if (constant == nullptr || constant->sizeBytes() < kWeight || std::ranges::all_of(value->uses(), readsRowsOnly)) continue;
        const bool isHalf = constant->dtype() == DType::float16 || constant->dtype() == DType::bfloat16;
        bytes += constant->sizeBytes() * (isHalf ? 2 : 1);
    }
    return bytes;
}

bool weightsFit(const ir::Model& model, std::uint64_t freeBytes) {
    return packedWeightBytes(model) <= freeBytes - freeBytes / 8;
}

FittingExecutor::FittingExecutor(const ir::Model& model, std::uint64_t freeBytes) : model_(model) {
    if (weightsFit(model, freeBytes)) executor_.emplace(model);
}

std::vector<Tensor> FittingExecutor::run(const Feeds& feeds) {
    return executor_ ? executor_->run(feeds) : runOnce(model_, feeds);
}

}  // namespace tcompress::exec
