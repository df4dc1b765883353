// Operators on 8-bit codes that only fusion makes, in the domain "tcompress".

#include "kernels/add_codes.h"
#include "kernels/attention_int8.h"
#include "kernels/code_table.h"
#include "kernels/normalization.h"
#include "kernels/quantize.h"
#include "lib/exec/ops/attention_support.h"
#include "lib/exec/ops/integer_matmul.h"
#include "lib/support/parallel.h"

namespace tcompress::exec {

namespace {

constexpr std::int64_t kRowsFirst = 1;

/// Heads of a 4-d tensor of codes, [batch, heads, rows, size] or with heads and rows exchanged.
struct CodedHeads {
    std::int64_t batch, heads, rows, size;
    kernels::HeadStrides strides;
};
CodedHeads codedHeads(const Tensor& tensor, std::int64_t layout, const kernels::Int8Code& code) {
    const Shape& s = tensor.shape();
    if (tensor.dtype() != code.type) refuseType(tensor.dtype());
    if (s.size() != 4)
        throw ModelError(fmt::format("attention needs 4 axes, its operand has shape {}", toString(s)));
    if (layout == kRowsFirst) return {s[0], s[2], s[1], s[3], rowMajorHeads(s[1], s[2], s[3])};
    return {s[0], s[1], s[2], s[3], {s[1] * s[2] * s[3], s[2] * s[3], s[3]}};
}

/// Inputs q, k, v (codes), [mask]; `layouts` of q, k, v and the output; codes of all steps.
Runner makeInt8Attention(const NodeInfo& info) {
    const auto layouts = info.attributes.integers("layouts").value();
    kernels::Int8Attention fixed;
    fixed.qCode = codeAttribute(info.attributes, "q").value();
    fixed.kCode = codeAttribute(info.attributes, "k").value();
    fixed.vCode = codeAttribute(info.attributes, "v").value();
    fixed.productCode = codeAttribute(info.attributes, "product");
    fixed.scaledCode = codeAttribute(info.attributes, "scaled");
    fixed.maskedCode = codeAttribute(info.attributes, "masked");
    fixed.probabilityCode = codeAttribute(info.attributes, "probability").value();
    fixed.outCode = codeAttribute(info.attributes, "y");
    fixed.scale = info.attributes.real("scale", 1);
    return [=](OpContext& context) {
        kernels::Int8Attention params = fixed;
        const CodedHeads q = codedHeads(context.input(0), layouts[0], params.qCode);
        const CodedHeads k = codedHeads(context.input(1), layouts[1], params.kCode);
        const CodedHeads v = codedHeads(context.input(2), layouts[2], params.vCode);
        if (k.size != q.size || k.rows != v.rows || k.heads != v.heads || k.heads != q.heads ||
            k.batch != q.batch || v.batch != q.batch) {
            throw ModelError(fmt::format(
                "attention operands of shapes {}, {} and {} do not fit", toString(context.input(0).shape()),
                toString(context.input(1).shape()), toString(context.input(2).shape())));
        }
        params.batch = q.batch;
        params.queryHeads = params.keyValueHeads = q.heads;
        params.queryLength = q.rows;
        params.keyLength = k.rows;
        params.headSize = q.size;
        params.valueHeadSize = v.size;
        params.q = context.input(0).bytes().data();
        params.k = context.input(1).bytes().data();
        params.v = context.input(2).bytes().data();
        params.qStrides = q.strides;
        params.kStrides = k.strides;
        params.vStrides = v.strides;
        if (context.has(3)) {
            const Mask mask = maskOf(context.input(3), q.batch, q.heads, q.rows, k.rows);
            params.mask = context.data<float>(3).data();
            params.maskStrides = mask.strides;
            params.maskColumnStride = mask.columnStride;
        }
        const bool rowsFirst = layouts[3] == kRowsFirst;
        const Shape shape =
            rowsFirst ? Shape{q.batch, q.rows, q.heads, v.size} : Shape{q.batch, q.heads, q.rows, v.size};
        params.out = context.outputBytes(0, params.outCode ? params.outCode->type : DType::float32, shape);
        params.outStrides = rowsFirst
                                ? rowMajorHeads(q.rows, q.heads, v.size)
                                : kernels::HeadStrides{q.heads * q.rows * v.size, q.rows * v.size, v.size};
        kernels::attention(params);
    };
}

/// Inputs x (codes), table of 256 codes.
Runner makeCodeTable(const NodeInfo& info) {
    const Tensor table = *info.constant(1);
    return [table](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto bytes = [](const Tensor& tensor) {
            return reinterpret_cast<const std::uint8_t*>(tensor.bytes().data());
        };
        auto* y = reinterpret_cast<std::uint8_t*>(context.outputInPlace(0, table.dtype(), x.shape()));
        kernels::lookUp({bytes(x), static_cast<std::size_t>(x.size())},
                        std::span<const std::uint8_t, 256>(bytes(table), 256), y);
    };
}

/// The tensor of a code as float32.
Tensor decoded(OpContext& context, const Tensor& x, const kernels::Int8Code& code) {
    std::byte* values = nullptr;
    Tensor result = context.temporary(DType::float32, x.shape(), &values);
    const auto zero = static_cast<std::uint8_t>(code.zeroPoint);
    kernels::dequantizeLinear({{kernels::Granularity::tensor, 1, x.size(), 1, 0},
                               x.bytes().data(),
                               code.type,
                               &code.scale,
                               &zero,
                               reinterpret_cast<float*>(values)});
    return result;
}

/// Inputs a, b (codes). Shapes that differ are added with broadcasting, in float32.
Runner makeCodedAdd(const NodeInfo& info) {
    const auto aCode = codeAttribute(info.attributes, "a").value();
    const auto bCode = codeAttribute(info.attributes, "b").value();
    const auto yCode = codeAttribute(info.attributes, "y").value();
    return [=](OpContext& context) {
        const Tensor& a = context.input(0);
        const Tensor& b = context.input(1);
        if (a.dtype() != aCode.type) refuseType(a.dtype());
        if (b.dtype() != bCode.type) refuseType(b.dtype());
        if (a.shape() == b.shape()) {
            kernels::addCodes({a.bytes().data(), b.bytes().data(), aCode, bCode, yCode, a.size(),
                               context.outputBytes(0, yCode.type, a.shape())});
            return;
        }
        const Tensor x = decoded(context, a, aCode);
        const Tensor y = decoded(context, b, bCode);
        const BroadcastPlan plan = broadcastPlan({&x, &y});
        const auto sums = context.scratch<float>(elementCount(plan.shape));
        kernels::binary<float>(kernels::BinaryOp::add, plan.loop, x.data<float>().data(),
                               y.data<float>().data(), sums.get());
        const auto zero = static_cast<std::uint8_t>(yCode.zeroPoint);
        kernels::quantizeLinear({{kernels::Granularity::tensor, 1, elementCount(plan.shape), 1, 0},
                                 sums.get(),
                                 &yCode.scale,
                                 &zero,
                                 yCode.type,
                                 context.outputBytes(0, yCode.type, plan.shape)});
    };
}

/// Inputs x (codes), gamma, [beta]: LayerNormalization over the last axis.
Runner makeCodedNormalization(const NodeInfo& info) {
    const auto xCode = codeAttribute(info.attributes, "x").value();
    const auto yCode = codeAttribute(info.attributes, "y").value();
    const float epsilon = info.attributes.real("epsilon", 1e-5F);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::int64_t columns = context.input(1).size();
        if (x.dtype() != xCode.type) refuseType(x.dtype());
        if (x.rank() == 0 || x.shape().back() != columns) {
            throw ModelError(
                fmt::format("{} scales do not fit rows of shape {}", columns, toString(x.shape())));
        }
        const float* gamma = context.data<float>(1).data();
        const float* beta = context.has(2) ? context.data<float>(2).data() : nullptr;
        std::byte* y = context.outputBytes(0, yCode.type, x.shape());
        const std::int64_t rows = columns == 0 ? 0 : x.size() / columns;
        // Rows that fit the first-level cache twice.
        const std::int64_t grain = std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, columns));
        parallelRanges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
            std::vector<float> values(static_cast<std::size_t>((end - begin) * columns));
            const auto count = static_cast<std::int64_t>(values.size());
            const kernels::QuantizationLayout layout{kernels::Granularity::tensor, 1, count, 1, 0};
            const auto xZero = static_cast<std::uint8_t>(xCode.zeroPoint);
            const auto yZero = static_cast<std::uint8_t>(yCode.zeroPoint);
            kernels::dequantizeLinear({layout, x.bytes().data() + begin * columns, xCode.type, &xCode.scale,
                                       &xZero, values.data()});
            kernels::LayerNormalization params;
            params.rows = end - begin;
            params.columns = columns;
            params.x = values.data();
            params.y = values.data();
            params.gamma = gamma;
            params.beta = beta;
            params.epsilon = epsilon;
            kernels::layerNormalization(params);
            kernels::quantizeLinear(
                {layout, values.data(), &yCode.scale, &yZero, yCode.type, y + begin * columns});
        });
    };
}

const OperatorRow kRows[] = {
    {kFusedDomain, "CodeTable", 1, makeCodeTable, kByteTypes, FloatSupport::all},
    {kFusedDomain, "CodedAdd", 1, makeCodedAdd, kByteTypes, FloatSupport::all},
    {kFusedDomain, "CodedNormalization", 1, makeCodedNormalization, kByteTypes, FloatSupport::all},
    {kFusedDomain, "Int8Attention", 1, makeInt8Attention, kByteTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> codedOperators() { return kRows; }

}  // namespace tcompress::exec
