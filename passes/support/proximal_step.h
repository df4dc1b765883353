#pragma once
// Between the optimum of a linear layer and another matrix: the proximal operator of its loss,
//
//   argmin  tr((X − T)ᵀ·H·(X − T)·A) + ρ·|X − M|²  =  T + ρ·(A ⊗ H + ρI)⁻¹·(M − T)
//
// Without A it is a product with one inverse of [inputs, inputs] for each ρ. With A the eigenvectors of
// H = Q·diag(c)·Qᵀ and A = R·diag(a)·Rᵀ serve every ρ: in their basis A ⊗ H is diagonal, c·aᵀ.
//
// Source: Wang, Grosse, Fidler and Zhang 2019, "EigenDamage: Structured Pruning in the Kronecker-Factored Eigenbasis"
// (weights in that basis).

#include <cstdint>
#include <functional>
#include <vector>

namespace tcompress::passes {

/// `x` = T + ρ·(A ⊗ H + ρI)⁻¹·`difference`, for one ρ. Matrices are outputs × inputs; `difference` is M − T. `x` is
/// none of the others.
using ProximalStep =
    std::function<void(const std::vector<float>& difference, const std::vector<float>& target, std::vector<float>& x)>;
/// The step of a ρ > 0.
using ProximalSteps = std::function<ProximalStep(double penalty)>;

/// With the identity for A; `hessian` is positive definite.
ProximalSteps proximalSteps(std::vector<double> hessian, std::int64_t inputs);
/// Both metrics are symmetric and positive semidefinite. The steps share what they work in: one at a time.
ProximalSteps proximalSteps(std::vector<double> hessian, std::int64_t inputs, std::vector<double> outputMetric, std::int64_t outputs);

}  // namespace tcompress::passes
