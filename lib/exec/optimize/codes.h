#pragma once
// 8-bit codes of whole tensors, as QuantizeLinear and DequantizeLinear nodes say them, for the rewrites that
// keep values in their codes.

#include <optional>
#include <string>

#include "kernels/matmul_int8.h"
#include "lib/exec/attributes.h"
#include "lib/exec/optimize/rewriter.h"

namespace tcompress::exec {

bool isQuantize(const PlanNode& node);
bool isDequantize(const PlanNode& node);

/// Of a QuantizeLinear or DequantizeLinear with one constant scale and zero point of 8 bits; nothing for
/// other nodes.
std::optional<kernels::Int8Code> tensorCode(const Rewriter& rewriter, const PlanNode* node);
bool sameCode(const kernels::Int8Code& a, const kernels::Int8Code& b);

/// A code as the attributes PREFIX_type, PREFIX_scale and PREFIX_zero_point that codeAttribute
/// (ops/integer_matmul.h) reads.
void setCode(PlanNode& node, const std::string& prefix, const kernels::Int8Code& code);

}  // namespace tcompress::exec
