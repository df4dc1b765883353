// Conversion between element types.

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

void runCast(OpContext& context, DType target) {
    const Tensor& x = context.input(0);
    if (x.dtype() == target) {
        context.setOutput(0, x);
    } else if (x.dtype() == DType::int32 && target == DType::float32) {
        const std::int32_t* source = x.data<std::int32_t>().data();
        float* y = context.output<float>(0, x.shape()).data();
        parallelRanges(x.size(), 65536, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<float>(source[i]);
        });
    } else {
        context.setOutput(0, convert(x, target));
    }
}

Runner makeCast(const NodeInfo& info) {
    const auto target = static_cast<DType>(info.attributes.integer("to", 0));
    if (!kStoredTypes.contains(target)) throw KernelError(fmt::format("cast to {} is not supported", name(target)));
    return [target](OpContext& context) { runCast(context, target); };
}

Runner makeCastLike(const NodeInfo&) {
    return [](OpContext& context) { runCast(context, context.input(1).dtype()); };
}

const OperatorRow kRows[] = {
    {"", "Cast", 6, makeCast, kStoredTypes, FloatSupport::all},
    {"", "CastLike", 15, makeCastLike, kStoredTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> castOperators() { return kRows; }

}  // namespace tcompress::exec
