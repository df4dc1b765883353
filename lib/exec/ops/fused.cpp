// Operators that only fusion makes, in the domain "tcompress".

#include "kernels/activation.h"
#include "kernels/gather.h"
#include "kernels/rotary.h"
#include "lib/exec/ops/attention_support.h"
#include "lib/exec/ops/integer_matmul.h"
#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

namespace {

kernels::Activation activationOf(const NodeInfo& info) {
    return static_cast<kernels::Activation>(info.attributes.integer("activation", 0));
}

/// Inputs x, W (constant), [bias], [residual]: residual + activation(alpha · x · W + bias).
Runner makeLinear(const NodeInfo& info) {
    const Transposed transposed = info.attributes.integer("transB", 0) ? Transposed::yes : Transposed::no;
    const float alpha = info.attributes.real("alpha", 1);
    const kernels::Activation activation = activationOf(info);
    auto packed = packMatrix(*info.constant(1), transposed);
    info.markPacked(1);
    return [=](OpContext& context) {
        runLinear(context, {&context.input(0), packed.get(), context.optionalInput(2), context.optionalInput(3), alpha, activation});
    };
}

/// Inputs x, W (constant int8 or uint8), scales (constant), [zero points (constant)], [bias], [residual], [scale of x], [zero
/// point of x]. x is float32 and quantized dynamically, or holds codes of the given scale and zero point or of the attributes
/// x_…; the result is float32 or codes (y_…).
Runner makeInt8Linear(const NodeInfo& info) {
    const kernels::Activation activation = activationOf(info);
    const Transposed transposed = info.attributes.integer("transB", 0) ? Transposed::yes : Transposed::no;
    auto packed = packInt8Matrix(*info.constant(1), zeroPointValues(info.constant(3)), transposed);
    const std::vector<float> scales = toFloat32(*info.constant(2));
    info.markPacked(1);
    const auto xCode = codeAttribute(info.attributes, "x");
    const auto beforeBias = codeAttribute(info.attributes, "before_bias");
    const auto yCode = codeAttribute(info.attributes, "y");
    return [=](OpContext& context) {
        const Int8LinearCall call{&context.input(0), packed.get(), scales, context.optionalInput(4), context.optionalInput(5), activation};
        if (context.has(6))
            runStaticInt8Linear(context, call, {{DType::uint8, context.data<float>(6)[0], context.data<std::uint8_t>(7)[0]}, beforeBias, yCode});
        else if (xCode)
            runStaticInt8Linear(context, call, {*xCode, beforeBias, yCode});
        else
            runDynamicInt8Linear(context, call);
    };
}

Runner makeActivation(const NodeInfo& info) {
    const kernels::Activation activation = activationOf(info);
    return [activation](OpContext& context) {
        const Tensor& x = context.input(0);
        auto* y = reinterpret_cast<float*>(context.outputInPlace(0, DType::float32, x.shape()));
        kernels::activate(activation, x.data<float>(), {y, static_cast<std::size_t>(x.size())});
    };
}

constexpr std::int64_t kRowsFirst = 1;

/// Heads of a 4-d tensor, [batch, heads, rows, size] or with heads and rows exchanged.
Heads headsIn(const Tensor& tensor, std::int64_t layout) {
    if (tensor.rank() != 4) throw ModelError(fmt::format("attention needs 4 axes, its operand has shape {}", toString(tensor.shape())));
    Heads heads = headsOf(tensor, 0);
    if (layout == kRowsFirst) {
        std::swap(heads.heads, heads.rows);
        std::swap(heads.strides.head, heads.strides.row);
    }
    return heads;
}

void runFusedAttention(OpContext& context, AttentionCall& call, const Tensor* mask, std::int64_t layout) {
    const Heads& q = call.q;
    std::optional<Mask> added;
    if (mask) {
        added = maskOf(*mask, q.batch, q.heads, q.rows, call.k.rows);
        call.mask = &*added;
    }
    if (layout == kRowsFirst) {
        call.out = context.output<float>(0, {q.batch, q.rows, q.heads, call.v.size}).data();
        call.outStrides = rowMajorHeads(q.rows, q.heads, call.v.size);
    } else {
        attentionOutput(context, call, 4);
    }
    runAttention(call);
}

/// Inputs q, k, v, [mask]; `layouts` of q, k, v and the output.
Runner makeFusedAttention(const NodeInfo& info) {
    const auto layouts = info.attributes.integers("layouts").value();
    const float scale = info.attributes.real("scale", 1);
    return [=](OpContext& context) {
        AttentionCall call;
        call.q = headsIn(context.input(0), layouts[0]);
        call.k = headsIn(context.input(1), layouts[1]);
        call.v = headsIn(context.input(2), layouts[2]);
        call.scale = scale;
        runFusedAttention(context, call, context.optionalInput(3), layouts[3]);
    };
}

/// Inputs [q | k | v] of [batch, rows, columns], [mask].
Runner makePackedAttention(const NodeInfo& info) {
    const auto heads = info.attributes.integers("heads").value();
    const auto sizes = info.attributes.integers("sizes").value();
    const std::int64_t layout = info.attributes.integer("layout", 0);
    const float scale = info.attributes.real("scale", 1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::int64_t width = heads[0] * sizes[0] + heads[1] * sizes[1] + heads[2] * sizes[2];
        if (x.rank() != 3 || x.shape()[2] != width) {
            throw ModelError(fmt::format("projections of shape {} do not hold {} columns", toString(x.shape()), width));
        }
        const auto part = [&](std::size_t i, std::int64_t offset) {
            return headsInside(x.data<float>().data(), x.shape()[0], x.shape()[1], width, offset, heads[i], sizes[i]);
        };
        AttentionCall call;
        call.q = part(0, 0);
        call.k = part(1, heads[0] * sizes[0]);
        call.v = part(2, heads[0] * sizes[0] + heads[1] * sizes[1]);
        call.scale = scale;
        runFusedAttention(context, call, context.optionalInput(1), layout);
    };
}

/// Inputs x, cosines, sines; `split` of x's last axis.
Runner makeRotateHalves(const NodeInfo& info) {
    const std::int64_t split = info.attributes.integer("split", 0);
    return [split](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& cosines = context.input(1);
        const Tensor& sines = context.input(2);
        BroadcastPlan plan = broadcastPlan({&x, &cosines, &sines});
        if (x.rank() == 0 || x.shape().back() != plan.shape.back() || split > x.shape().back()) {
            throw ModelError(fmt::format("tables of shapes {} and {} do not fit heads of shape {} that are split at {}",
                                         toString(cosines.shape()), toString(sines.shape()), toString(x.shape()), split));
        }
        kernels::RotateHalves params;
        params.size = x.shape().back();
        params.split = split;
        params.x = x.data<float>().data();
        params.cosines = cosines.data<float>().data();
        params.sines = sines.data<float>().data();
        params.y = context.output<float>(0, plan.shape).data();
        params.loop = std::move(plan.loop);
        kernels::rotateHalves(params);
    };
}

/// Inputs table, scales (one, or one a row), [zero points], indices.
Runner makeGatherDequantize(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& table = context.input(0);
        const Tensor& indices = context.input(3);
        const Tensor positions = indices.dtype() == DType::int64 ? indices : convert(indices, DType::int64);
        Shape shape = indices.shape();
        shape.push_back(table.shape()[1]);
        kernels::GatherDequantize params;
        params.x = typedBytes(table);
        params.type = table.dtype();
        params.axis = table.shape()[0];
        params.inner = table.shape()[1];
        params.scales = context.data<float>(1);
        params.zeroPoints = context.has(2) ? typedBytes(context.input(2)) : nullptr;
        params.indices = positions.data<std::int64_t>();
        params.y = context.output<float>(0, shape).data();
        kernels::gather(params);
    };
}

constexpr TypeSet kSingle{DType::float32};
constexpr TypeSet kSingleOrBytes = kSingle | kByteTypes;

const OperatorRow kRows[] = {
    {kFusedDomain, "Linear", 1, makeLinear, kSingle, FloatSupport::float32},
    {kFusedDomain, "Int8Linear", 1, makeInt8Linear, kSingleOrBytes, FloatSupport::float32},
    {kFusedDomain, "Activation", 1, makeActivation, kSingle, FloatSupport::float32},
    {kFusedDomain, "Attention", 1, makeFusedAttention, kSingle, FloatSupport::float32},
    {kFusedDomain, "PackedAttention", 1, makePackedAttention, kSingle, FloatSupport::float32},
    {kFusedDomain, "RotateHalves", 1, makeRotateHalves, kSingle, FloatSupport::float32},
    {kFusedDomain, "GatherDequantize", 1, makeGatherDequantize, kStoredTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> fusedOperators() { return kRows; }

}  // namespace tcompress::exec
