#pragma once
// The product as its definition says, summed in float64: the judge of the fast kernels.

#include "kernels/matmul.h"

namespace tcompress::kernels {

void matmulReference(const PackedMatmul& params);
void matmulReference(const BatchedMatmul& params);

/// The activation in float64.
double activateReference(Activation activation, double x);

}  // namespace tcompress::kernels
