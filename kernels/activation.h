#pragma once
// Activation functions and other real functions of one variable on float32, vectorised. exp, tanh, erf and
// the functions made of them use own polynomials (Cody–Waite range reduction; rational minimax for erf) with
// an error of at most a few units in the last place of the result's range: exp ≤ 2 ulp, tanh, erf, sigmoid ≤
// 4 ulp or 2^-24 absolute. NaN gives NaN, infinities their limits. Input and output may be the same memory.
// Parallel over fixed ranges.

#include <span>
#include <string_view>

namespace tcompress::kernels {

/// none: x. relu: max(x, 0). geluErf: x·Φ(x). geluTanh: its tanh form (Hendrycks and Gimpel, 2016). silu:
/// x·σ(x). quickGelu: x·σ(1.702·x).
enum class Activation { none, relu, geluErf, geluTanh, silu, quickGelu, tanh, sigmoid };

std::string_view name(Activation activation);

/// y[i] = activation(x[i]). Sizes must be equal.
void activate(Activation activation, std::span<const float> x, std::span<float> y);

enum class RealFunction { exp, log, tanh, sigmoid, erf, softplus };

/// y[i] = function(x[i]).
void apply(RealFunction function, std::span<const float> x, std::span<float> y);

}  // namespace tcompress::kernels
