// Conversion between element types.

#include <cmath>
#include <limits>

#include "lib/exec/ops/support.h"
#include "lib/exec/ops/type_attribute.h"

namespace tcompress::exec {

namespace {

/// Truncated towards zero; what does not fit (NaN too) becomes the lowest integer, which is what the processor's own conversion
/// gives and ONNX Runtime hands on (ONNX leaves it undefined).
template <class Integer>
Tensor truncated(const Tensor& x) {
    const Tensor wide = convert(x, DType::float64);
    Tensor result(DTypeOf<Integer>::value, x.shape());
    const double* source = wide.data<double>().data();
    Integer* y = result.mutableData<Integer>().data();
    constexpr auto kLowest = std::numeric_limits<Integer>::min();
    constexpr auto kLimit = -static_cast<double>(kLowest);
    parallelRanges(x.size(), 65536, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const double value = std::trunc(source[i]);
            y[i] = value >= -kLimit && value < kLimit ? static_cast<Integer>(value) : kLowest;
        }
    });
    return result;
}

/// Types of less than 32 bits keep the low bits of the 32-bit integer, as ONNX Runtime and the operator's own cases have it.
Tensor floatToInteger(const Tensor& x, DType target) {
    if (target == DType::int64) return truncated<std::int64_t>(x);
    if (target == DType::int32 || bitsPerElement(target) < 32) return convert(truncated<std::int32_t>(x), target);
    return convert(x, target);
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

enum class Saturation { saturate, overflow };

void runCast(OpContext& context, DType target, Saturation saturation) {
    const Tensor& x = context.input(0);
    if (x.dtype() == target) {
        context.setOutput(0, x);
        return;
    }
    if (x.dtype() == DType::int32 && target == DType::float32) {
        const std::int32_t* source = x.data<std::int32_t>().data();
        float* y = context.output<float>(0, x.shape()).data();
        parallelRanges(x.size(), 65536, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<float>(source[i]);
        });
        return;
    }
    for (const Float8Overflow& overflow : kFloat8Overflows) {
        if (overflow.type != target || saturation == Saturation::saturate) continue;
        context.setOutput(0, castWithoutSaturation(x, overflow));
        return;
    }
    const bool truncates = isFloatingPoint(x.dtype()) && isInteger(target);
    context.setOutput(0, truncates ? floatToInteger(x, target) : convert(x, target));
}

Saturation saturationOf(const NodeInfo& info) {
    return info.attributes.integer("saturate", 1) ? Saturation::saturate : Saturation::overflow;
}

Runner makeCast(const NodeInfo& info) {
    const auto target = typeAttribute(info.attributes, "to");
    if (!kStoredTypes.contains(target)) throw KernelError(fmt::format("cast to {} is not supported", name(target)));
    const Saturation saturation = saturationOf(info);
    return [=](OpContext& context) { runCast(context, target, saturation); };
}

Runner makeCastLike(const NodeInfo& info) {
    const Saturation saturation = saturationOf(info);
    return [=](OpContext& context) { runCast(context, context.input(1).dtype(), saturation); };
}

/// The same bits under another type.
Runner makeBitCast(const NodeInfo& info) {
    const auto target = typeAttribute(info.attributes, "to");
    if (!kStoredTypes.contains(target)) throw KernelError(fmt::format("a view as {} is not supported", name(target)));
    return [target](OpContext& context) {
        const Tensor& x = context.input(0);
        if (bitsPerElement(x.dtype()) != bitsPerElement(target)) {
            throw ModelError(fmt::format("{} and {} differ in width", name(x.dtype()), name(target)));
        }
        context.setOutput(0, Tensor::share(target, x.shape(), x.storage()));
    };
}

const OperatorRow kRows[] = {
    {"", "Cast", 6, makeCast, kStoredTypes, FloatSupport::all},
    {"", "CastLike", 15, makeCastLike, kStoredTypes, FloatSupport::all},
    {"", "BitCast", 26, makeBitCast, kStoredTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> castOperators() { return kRows; }

}  // namespace tcompress::exec
