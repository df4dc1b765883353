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

/// What saturate = 0 asks of casts to 8-bit floats: values that round beyond the largest become infinity or, where the type has
/// none, NaN (ONNX Cast, table "saturate = False").
struct Float8Overflow {
    DType type;
    float limit;           // the first value that rounds beyond the largest
    std::uint8_t positive, negative;
};
constexpr Float8Overflow kFloat8Overflows[] = {
    {DType::float8e4m3fn, 464.0F, 0x7F, 0xFF},
    {DType::float8e4m3fnuz, 248.0F, 0x80, 0x80},
    {DType::float8e5m2, 61440.0F, 0x7C, 0xFC},
    {DType::float8e5m2fnuz, 61440.0F, 0x80, 0x80},
};

Tensor castWithoutSaturation(const Tensor& x, const Float8Overflow& overflow) {
    const std::vector<float> values = toFloat32(x);
    Tensor result = convert(x, overflow.type);
    auto* bytes = reinterpret_cast<std::uint8_t*>(result.mutableBytes().data());
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i] >= overflow.limit) bytes[i] = overflow.positive;
        if (values[i] <= -overflow.limit) bytes[i] = overflow.negative;
    }
    return result;
}

Runner makeCast(const NodeInfo& info) {
    const auto target = static_cast<DType>(info.attributes.integer("to", 0));
    if (!kStoredTypes.contains(target)) throw KernelError(fmt::format("cast to {} is not supported", name(target)));
    for (const Float8Overflow& overflow : kFloat8Overflows) {
        if (overflow.type == target && info.attributes.integer("saturate", 1) == 0) {
            return [&overflow](OpContext& context) { context.setOutput(0, castWithoutSaturation(context.input(0), overflow)); };
        }
    }
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
