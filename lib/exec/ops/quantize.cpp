// QuantizeLinear, DequantizeLinear (per tensor, axis or block; 2- to 32-bit storage) and DynamicQuantizeLinear.

#include "kernels/quantize.h"

#include "kernels/gather.h"
#include "lib/exec/ops/support.h"
#include "lib/exec/ops/type_attribute.h"

namespace tcompress::exec {

namespace {

/// How scales of shape `scale` belong to x: one, one along `axis`, or (scale of x's rank) blocks along `axis`.
kernels::QuantizationLayout layoutOf(const Shape& x, const Tensor& scale, std::int64_t axisAttribute, std::int64_t block) {
    kernels::QuantizationLayout layout;
    if (scale.size() == 1 && scale.rank() <= 1) {
        layout.axis = elementCount(x);
        return layout;
    }
    const auto axis = static_cast<std::size_t>(normalizeAxis(axisAttribute, static_cast<std::int64_t>(x.size())));
    layout.outer = product(x, 0, axis);
    layout.axis = x[axis];
    layout.inner = product(x, axis + 1, x.size());
    if (scale.rank() <= 1) {
        layout.granularity = kernels::Granularity::axis;
        if (scale.size() != layout.axis) {
            throw ModelError(fmt::format("{} scales for axis {} of shape {}", scale.size(), axis, toString(x)));
        }
        return layout;
    }
    layout.granularity = kernels::Granularity::block;
    const std::int64_t parts = scale.shape().size() == x.size() ? scale.shape()[axis] : 0;
    layout.block = block > 0 ? block : (parts > 0 ? (layout.axis + parts - 1) / parts : 0);
    Shape expected = x;
    if (layout.block > 0) expected[axis] = layout.blocks();
    if (layout.block <= 0 || scale.shape() != expected) {
        throw ModelError(fmt::format("scales of shape {} do not fit blocks of {} along axis {} of {}", toString(scale.shape()),
                                     layout.block, axis, toString(x)));
    }
    return layout;
}

/// Scales may be stored as float16 or bfloat16.
Tensor floatScale(const Tensor& scale) { return convert(scale, DType::float32); }

/// Types of 8 bits and less whose values are multiplied by the scale as they are.
bool isScaledFloat(DType type) {
    return type == DType::float4e2m1 || type == DType::float8e4m3fn || type == DType::float8e4m3fnuz || type == DType::float8e5m2 || type == DType::float8e5m2fnuz;
}

/// Which scale belongs to element i of the layout.
std::int64_t scaleIndex(const kernels::QuantizationLayout& layout, std::int64_t i) {
    if (layout.granularity == kernels::Granularity::tensor) return 0;
    const std::int64_t axis = i / layout.inner % layout.axis;
    if (layout.granularity == kernels::Granularity::axis) return axis;
    const std::int64_t outer = i / (layout.inner * layout.axis);
    return (outer * layout.blocks() + axis / layout.block) * layout.inner + i % layout.inner;
}

/// Elements divided or multiplied by their scales: floating-point types have no zero point but 0.
enum class Scaling { divide, multiply };
Tensor scaled(OpContext& context, const Tensor& x, const Tensor& scale, const kernels::QuantizationLayout& layout, Scaling scaling) {
    std::byte* elements = nullptr;
    Tensor result = context.temporary(DType::float32, x.shape(), &elements);
    const auto source = x.data<float>();
    const auto factors = scale.data<float>();
    for (std::int64_t i = 0; i < x.size(); ++i) {
        const float factor = factors[static_cast<std::size_t>(scaleIndex(layout, i))];
        const float value = source[static_cast<std::size_t>(i)];
        reinterpret_cast<float*>(elements)[i] = scaling == Scaling::divide ? value / factor : value * factor;
    }
    return result;
}

Runner makeQuantizeLinear(const NodeInfo& info) {
    const std::int64_t axis = info.attributes.integer("axis", 1);
    const std::int64_t block = info.attributes.integer("block_size", 0);
    const auto outputType = typeAttribute(info.attributes, "output_dtype");
    return [=](OpContext& context) {
        const Tensor x = convert(context.input(0), DType::float32);
        const Tensor scale = floatScale(context.input(1));
        const Tensor* zeroPoint = context.optionalInput(2);
        const DType type = zeroPoint ? zeroPoint->dtype() : (outputType == DType::undefined ? DType::uint8 : outputType);
        kernels::QuantizeLinear params;
        params.layout = layoutOf(x.shape(), scale, axis, block);
        if (isScaledFloat(type)) {
            context.setOutput(0, convert(scaled(context, x, scale, params.layout, Scaling::divide), type));
            return;
        }
        if (!isInteger(type)) refuseType(type);
        params.x = x.data<float>().data();
        params.scales = scale.data<float>().data();
        params.zeroPoints = zeroPoint ? typedBytes(*zeroPoint) : nullptr;
        params.type = type;
        params.y = context.outputBytes(0, type, x.shape());
        kernels::quantizeLinear(params);
    };
}

Runner makeDequantizeLinear(const NodeInfo& info) {
    const std::int64_t axis = info.attributes.integer("axis", 1);
    const std::int64_t block = info.attributes.integer("block_size", 0);
    const auto asked = typeAttribute(info.attributes, "output_dtype");
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const DType outputType = asked == DType::undefined ? context.input(1).dtype() : asked;
        const Tensor scale = floatScale(context.input(1));
        kernels::DequantizeLinear params;
        params.layout = layoutOf(x.shape(), scale, axis, block);
        if (isScaledFloat(x.dtype())) {
            context.setOutput(0, convert(scaled(context, convert(x, DType::float32), scale, params.layout, Scaling::multiply), outputType));
            return;
        }
        if (!isInteger(x.dtype())) refuseType(x.dtype());
        params.x = typedBytes(x);
        params.type = x.dtype();
        params.scales = scale.data<float>().data();
        params.zeroPoints = context.has(2) ? typedBytes(context.input(2)) : nullptr;
        params.y = context.output<float>(0, x.shape()).data();
        kernels::dequantizeLinear(params);
        if (outputType != DType::float32) context.setOutput(0, convert(context.outputTensor(0), outputType));
    };
}

Runner makeDynamicQuantizeLinear(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto y = context.output<std::uint8_t>(0, x.shape());
        const kernels::UInt8Parameters parameters = kernels::dynamicQuantizeLinear(x.data<float>(), y);
        context.output<float>(1, {})[0] = parameters.scale;
        context.output<std::uint8_t>(2, {})[0] = parameters.zeroPoint;
    };
}

constexpr TypeSet kQuantizedTypes{DType::int8,  DType::uint8, DType::int16, DType::uint16, DType::int4,
                                  DType::uint4, DType::int2,  DType::uint2, DType::int32,
                                  DType::float8e4m3fn, DType::float8e4m3fnuz, DType::float8e5m2, DType::float8e5m2fnuz,
                                  DType::float4e2m1};

const OperatorRow kRows[] = {
    {"", "QuantizeLinear", 10, makeQuantizeLinear, kFloatTypes | TypeSet{DType::int32}, FloatSupport::all},
    {"", "DequantizeLinear", 10, makeDequantizeLinear, kQuantizedTypes, FloatSupport::all},
    {"", "DynamicQuantizeLinear", 11, makeDynamicQuantizeLinear, TypeSet{DType::float32}, FloatSupport::float32},
    {kContribDomain, "QuantizeLinear", 1, makeQuantizeLinear, kFloatTypes, FloatSupport::all},
    {kContribDomain, "DequantizeLinear", 1, makeDequantizeLinear, kQuantizedTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> quantizeOperators() { return kRows; }

}  // namespace tcompress::exec
