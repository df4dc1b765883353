#include "passes/low_rank/fitted_factors.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "passes/low_rank/factor_products.h"

namespace tcompress::passes {

FittedFactors fitFactors(const LayerProblem& problem, std::int64_t rank) {
    FittedFactors result;
    const LinearLayer& start = problem.start;
    const LayerSums& fit = problem.evidence.fit;
    result.fit = chooseConstrained(problem, [&](const LayerSums& sums, const RefitChoice& choice) {
        result.factors = whitenedSvd(hessian(sums, choice), refit(sums, start, choice).weight, sums.outputs, rank);
        return withBias(sums, product(result.factors), start, choice);
    });
    std::vector<double> unit(static_cast<std::size_t>(fit.inputs * fit.inputs));
    for (std::int64_t i = 0; i < fit.inputs; ++i) unit[static_cast<std::size_t>(i * fit.inputs + i)] = 1;
    result.plainError = heldBackError(
        problem, {product(whitenedSvd(std::move(unit), start.weight, fit.outputs, rank)), start.bias});
    result.error = std::sqrt(result.fit.choice.heldError);
    return result;
}

std::string describe(const FittedFactors& fitted) {
    const LowRankFactors& factors = fitted.factors;
    return fmt::format("[{}, {}] to rank {}: {} of {} parameters; output error {:.3f}, {:.3f} fitted to data ({})",
                       factors.inputs, factors.outputs, factors.rank, factors.rank * (factors.inputs + factors.outputs),
                       factors.inputs * factors.outputs, fitted.plainError, fitted.error, describe(fitted.fit.choice));
}

void replaceByFactors(ir::Edit& edit, const TargetWeight& weight, const LowRankFactors& factors) {
    // Gemm's alpha stays at the second product.
    const analysis::Site& site = *weight.sites.front();
    const double scale = site.node->is("Gemm") ? site.node->attributeFloat("alpha", 1.0f) : 1.0;
    Tensor left(DType::float32, {factors.inputs, factors.rank});
    Tensor right(DType::float32, {factors.rank, factors.outputs});
    std::copy(factors.left.begin(), factors.left.end(), left.mutableData<float>().begin());
    std::transform(factors.right.begin(), factors.right.end(), right.mutableData<float>().begin(),
                   [&](double value) { return static_cast<float>(value / scale); });
    if (weight.inAxis == 0)
        replaceByFactors(edit, weight, std::move(left), std::move(right));
    else
        replaceByFactors(edit, weight, transpose(right, {1, 0}), transpose(left, {1, 0}));
}

}  // namespace tcompress::passes
