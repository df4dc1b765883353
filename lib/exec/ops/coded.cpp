// Operators on 8-bit codes that only fusion makes, in the domain "tcompress".

#include "kernels/attention_int8.h"
#include "lib/exec/ops/attention_support.h"
#include "lib/exec/ops/integer_matmul.h"

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
    if (s.size() != 4) throw ModelError(fmt::format("attention needs 4 axes, its operand has shape {}", toString(s)));
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
        if (k.size != q.size || k.rows != v.rows || k.heads != v.heads || k.heads != q.heads || k.batch != q.batch || v.batch != q.batch) {
            throw ModelError(fmt::format("attention operands of shapes {}, {} and {} do not fit", toString(context.input(0).shape()),
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
        const Shape shape = rowsFirst ? Shape{q.batch, q.rows, q.heads, v.size} : Shape{q.batch, q.heads, q.rows, v.size};
        params.out = context.outputBytes(0, params.outCode ? params.outCode->type : DType::float32, shape);
        params.outStrides = rowsFirst ? rowMajorHeads(q.rows, q.heads, v.size)
                                      : kernels::HeadStrides{q.heads * q.rows * v.size, q.rows * v.size, v.size};
        kernels::attention(params);
    };
}

const OperatorRow kRows[] = {
    {kFusedDomain, "Int8Attention", 1, makeInt8Attention, kByteTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> codedOperators() { return kRows; }

}  // namespace tcompress::exec
