#pragma once
// Operands of attention's products seen as heads: which earlier tensor holds them, and in which order of
// axes.

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/exec/optimize/rewriter.h"

namespace tcompress::exec {

// Orders of the axes of a 4-d tensor of heads, as attributes of fused nodes say them.
inline constexpr std::int64_t kHeadsFirst = 0;  // [batch, heads, rows, size]
inline constexpr std::int64_t kRowsFirst = 1;   // [batch, rows, heads, size]

using Permutation = std::vector<std::int64_t>;

struct Operand {
    ValueId value = kNoValue;
    Permutation permutation{0, 1, 2, 3};  // of `value`, giving [batch, heads, rows, size]
};

/// Of a Transpose of four axes.
std::optional<Permutation> permutationOf(const PlanNode& transpose);
/// Walks up through Transposes and, where `scale` is given, products with a scalar, which go into it.
Operand headOperand(const Rewriter& rewriter, ValueId value, float* scale);
/// kHeadsFirst or kRowsFirst.
std::optional<std::int64_t> layoutOf(const Permutation& permutation);
bool hasFourAxes(const PlanGraph& graph, const Operand& operand);

}  // namespace tcompress::exec
