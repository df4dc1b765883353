#include "lib/exec/optimize/codes.h"

#include <cmath>

#include "lib/exec/operator.h"

namespace tcompress::exec {

bool isQuantize(const PlanNode& node) {
    return node.is("QuantizeLinear") || node.is(kContribDomain, "QuantizeLinear");
}
bool isDequantize(const PlanNode& node) {
    return node.is("DequantizeLinear") || node.is(kContribDomain, "DequantizeLinear");
}

std::optional<kernels::Int8Code> tensorCode(const Rewriter& rewriter, const PlanNode* node) {
    if (!node || !(isQuantize(*node) || isDequantize(*node))) return std::nullopt;
    const Tensor* scale = rewriter.constant(node->input(1));
    const Tensor* zero = rewriter.constant(node->input(2));
    if (!scale || scale->size() != 1 || scale->rank() > 1 || scale->dtype() != DType::float32)
        return std::nullopt;
    kernels::Int8Code code;
    code.scale = scale->data<float>().front();
    if (!std::isnormal(code.scale) || !std::isnormal(1.0F / code.scale) || code.scale < 0)
        return std::nullopt;
    if (node->input(2) != kNoValue) {
        if (!zero || zero->size() != 1) return std::nullopt;
        code.type = zero->dtype();
        code.zeroPoint = static_cast<std::int32_t>(toInt64(*zero).front());
    } else {
        const auto asked = static_cast<DType>(Attributes(*node->proto).integer("output_dtype", 0));
        code.type = isDequantize(*node)         ? rewriter.graph().value(node->input(0)).dtype
                    : asked == DType::undefined ? DType::uint8
                                                : asked;
    }
    const bool floatResult = isQuantize(*node) || Attributes(*node->proto).integer("output_dtype", 1) <= 1;
    const bool byte = code.type == DType::uint8 || code.type == DType::int8;
    return byte && floatResult ? std::optional(code) : std::nullopt;
}

bool sameCode(const kernels::Int8Code& a, const kernels::Int8Code& b) {
    return a.type == b.type && a.scale == b.scale && a.zeroPoint == b.zeroPoint;
}

void setCode(PlanNode& node, const std::string& prefix, const kernels::Int8Code& code) {
    setAttribute(protoOf(node), prefix + "_type", static_cast<std::int64_t>(code.type));
    setAttribute(protoOf(node), prefix + "_scale", code.scale);
    setAttribute(protoOf(node), prefix + "_zero_point", static_cast<std::int64_t>(code.zeroPoint));
}

}  // namespace tcompress::exec
