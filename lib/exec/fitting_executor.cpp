#include "lib/exec/fitting_executor.h"

#include <fmt/core.h>

#include <algorithm>

#include "lib/exec/run_once.h"
#include "lib/support/error.h"

namespace tcompress::exec {

namespace {

/// Smaller ones make no difference.
constexpr std::size_t kWeight = 65536;

/// The rest is for values.
std::uint64_t usable(std::uint64_t freeBytes) { return freeBytes - freeBytes / 8; }

bool readsRowsOnly(const ir::Use& use) {
    return use.kind == ir::UseKind::input && use.node->opType().starts_with("Gather") && use.index == 0;
}

const Tensor* largeConstant(const ir::Value& value) {
    const Tensor* constant = value.constant();
    return constant != nullptr && constant->sizeBytes() >= kWeight ? constant : nullptr;
}

bool isHalf(const Tensor& tensor) { return tensor.dtype() == DType::float16 || tensor.dtype() == DType::bfloat16; }

/// What every plan holds (optimize/widen.cpp).
std::uint64_t widenedBytes(const ir::Model& model) {
    std::uint64_t bytes = 0;
    for (const ir::Value* value : model.graph().values())
        if (const Tensor* constant = largeConstant(*value); constant && isHalf(*constant)) bytes += 2 * constant->sizeBytes();
    return bytes;
}

}  // namespace

std::uint64_t packedWeightBytes(const ir::Model& model) {
    std::uint64_t bytes = widenedBytes(model);
    for (const ir::Value* value : model.graph().values())
        if (const Tensor* constant = largeConstant(*value); constant && !isHalf(*constant) && !std::ranges::all_of(value->uses(), readsRowsOnly))
            bytes += constant->sizeBytes();
    return bytes;
}

bool weightsFit(const ir::Model& model, std::uint64_t freeBytes) {
    return packedWeightBytes(model) <= usable(freeBytes);
}

FittingExecutor::FittingExecutor(const ir::Model& model, std::uint64_t freeBytes) : model_(model) {
    if (weightsFit(model, freeBytes)) {
        executor_.emplace(model);
    } else if (const std::uint64_t widened = widenedBytes(model); widened > usable(freeBytes)) {
        constexpr double kMegabyte = 1e6;
        throw ModelError(fmt::format("the model's float16 weights take {:.1f} MB as float32, and {:.1f} MB of memory are free; "
                                     "run it on a machine with more, or with more freed",
                                     static_cast<double>(widened) / kMegabyte, static_cast<double>(freeBytes) / kMegabyte));
    }
}

std::vector<Tensor> FittingExecutor::run(const Feeds& feeds) {
    return executor_ ? executor_->run(feeds) : runOnce(model_, feeds);
}

}  // namespace tcompress::exec
