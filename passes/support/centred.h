#pragma once
// Second moments once the means are taken out of them.

#include <cstddef>
#include <span>
#include <vector>

namespace tcompress::passes {

/// Clears `centred`, XᵀX − n·x̄·x̄ᵀ, where it is no more than the float32 products of `gram`, XᵀX, were rounded to: the
/// rows of X are all alike, and what is left would say what it likes. Both [inputs, inputs].
inline void clearRounding(std::vector<double>& centred, std::span<const double> gram, std::size_t inputs) {
    constexpr double kRounding = 1e-5;
    double left = 0, whole = 0;
    for (std::size_t i = 0; i < inputs; ++i) {
        left += centred[i * inputs + i];
        whole += gram[i * inputs + i];
    }
    if (left <= kRounding * whole) centred.assign(centred.size(), 0.0);
}

}  // namespace tcompress::passes
