#pragma once
// A linear layer as two products in the graph: x · W becomes (x · A) · B.

#include <string>

#include "lib/ir/edit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// Why a site cannot run as two products; empty when it can.
std::string factorRefusal(const analysis::Site& site);

/// Why two factors of this rank would be no smaller than a matrix [m, n]; empty when they are.
std::string factorSizeRefusal(std::int64_t m, std::int64_t n, std::int64_t rank);

/// Puts left · right in the place of the stored matrix at all sites of a weight: products for linear layers, a look-up
/// and a product for tables. `left` is [rows, rank] and `right` [rank, columns] of the matrix as it is stored. Sites keep
/// their names and biases.
void replaceByFactors(ir::Edit& edit, const TargetWeight& weight, Tensor left, Tensor right);

}  // namespace tcompress::passes
