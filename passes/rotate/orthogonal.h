#pragma once
// Rotations that spread what is in few channels over all of them, and products with them.
//
//   Q = C · diag(s) · Cᵀ,    s₀ = 1, the others ±1 at random,    C the orthonormal cosine basis (DCT-II)
//
// Q is its own inverse, its entries are about 1/√n, and it exists for every n (a randomised Hadamard matrix, its kin
// for powers of two, does not). C's first column is constant, so Q·1 = 1: a rotated row keeps its mean as well as its
// length, and passes through LayerNorm as it does through RMSNorm.
//
// Source: Tseng et al. 2024, "QuIP#: Even Better LLM Quantization with Hadamard Incoherence and Lattice Codebooks"
// (randomised fast orthogonal transforms).

#include <cstdint>
#include <span>
#include <vector>

#include "lib/support/random.h"
#include "lib/tensor/tensor.h"

namespace tcompress::passes {

/// Q [n, n], row-major.
std::vector<double> randomRotation(std::int64_t n, Random random);

/// The float32 tensor with each vector along `axis`, of the rotation's size, multiplied with it. Before that its
/// entries are multiplied with `factors` (empty: all 1).
Tensor rotated(const Tensor& tensor, std::size_t axis, std::span<const double> rotation,
               std::span<const float> factors = {});

}  // namespace tcompress::passes
