#include "passes/quantize/gptq_fit.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/linalg.h"
#include "lib/support/check.h"
#include "passes/quantize/code_descent.h"
#include "passes/quantize/output_error.h"

namespace tcompress::passes {
namespace {

using calibration::Moments;
using kernels::Transposition;

/// λ of the regression towards W, as multiples of the mean diagonal of the moments.
constexpr double kRidges[] = {0.1, 1.0};

std::vector<double> inDouble(std::span<const float> values) { return {values.begin(), values.end()}; }

/// The inverse of byInputChannel.
std::vector<float> fromInputChannels(std::span<const double> matrix,
                                     const kernels::QuantizationLayout& layout) {
    const std::int64_t channels = layout.outer * layout.inner;
    std::vector<float> values(matrix.size());
    for (std::int64_t outer = 0; outer < layout.outer; ++outer)
        for (std::int64_t i = 0; i < layout.axis; ++i)
            for (std::int64_t inner = 0; inner < layout.inner; ++inner)
                values[static_cast<std::size_t>((outer * layout.axis + i) * layout.inner + inner)] =
                    static_cast<float>(
                        matrix[static_cast<std::size_t>(i * channels + outer * layout.inner + inner)]);
    return values;
}

/// The layer's own output as a target.
Moments::Cross ownTarget(const Moments& moments, std::span<const double> w, std::int64_t outputs) {
    Moments::Cross own;
    const std::int64_t n = moments.inputs;
    own.outputs = outputs;
    own.product.resize(w.size());
    kernels::gemm(Transposition::no, Transposition::no, n, outputs, n, moments.gram, w, own.product);
    own.sum.assign(static_cast<std::size_t>(outputs), 0.0);
    own.squares.assign(static_cast<std::size_t>(outputs), 0.0);
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t c = 0; c < outputs; ++c) {
            const double weight = w[static_cast<std::size_t>(i * outputs + c)];
            own.sum[static_cast<std::size_t>(c)] += weight * moments.sum[static_cast<std::size_t>(i)];
            own.squares[static_cast<std::size_t>(c)] +=
                weight * own.product[static_cast<std::size_t>(i * outputs + c)];
        }
    return own;
}

/// Moments about the mean: what is left for the weights where a constant takes up the mean.
Moments centred(Moments moments) {
    const std::int64_t n = moments.inputs;
    const auto rows = static_cast<double>(std::max<std::int64_t>(1, moments.rows));
    for (std::int64_t i = 0; i < n; ++i) {
        const double mean = moments.sum[static_cast<std::size_t>(i)] / rows;
        for (std::int64_t j = 0; j < n; ++j)
            moments.gram[static_cast<std::size_t>(i * n + j)] -=
                mean * moments.sum[static_cast<std::size_t>(j)];
        for (Moments::Cross& cross : moments.targets)
            for (std::int64_t c = 0; c < cross.outputs; ++c)
                cross.product[static_cast<std::size_t>(i * cross.outputs + c)] -=
                    mean * cross.sum[static_cast<std::size_t>(c)];
    }
    return moments;
}

double meanDiagonal(const Moments& moments) {
    double sum = 0;
    for (std::int64_t i = 0; i < moments.inputs; ++i)
        sum += moments.gram[static_cast<std::size_t>(i * moments.inputs + i)];
    return sum / static_cast<double>(std::max<std::int64_t>(1, moments.inputs));
}

/// argmin ‖X·V − Y‖² + λ‖V − W‖².
std::vector<double> regressed(const Moments& moments, const Moments::Cross& target, std::span<const double> w,
                              double ridge) {
    const std::int64_t n = moments.inputs;
    const double lambda = ridge * meanDiagonal(moments);
    if (!(lambda > 0)) return {w.begin(), w.end()};
    std::vector<double> factor = moments.gram;
    for (std::int64_t i = 0; i < n; ++i) factor[static_cast<std::size_t>(i * n + i)] += lambda;
    kernels::cholesky(factor, n);
    std::vector<double> solution = target.product;
    for (std::size_t i = 0; i < solution.size(); ++i) solution[i] += lambda * w[i];
    kernels::solveTriangular(kernels::Triangle::lower, Transposition::no, factor, n, solution,
                             target.outputs);
    kernels::solveTriangular(kernels::Triangle::lower, Transposition::yes, factor, n, solution,
                             target.outputs);
    return solution;
}

/// One way to solve the layer. `target` −1: rounding to nearest; 0: the layer's own output.
struct Choice {
    int target = 0;
    double ridge = 0;
    double damp = 0.01;
    std::int64_t sweeps = 0;
};

class Fitter {
  public:
    explicit Fitter(const GptqFit& fit)
        : fit_(fit),
          outputs_(fit.layout.outer * fit.layout.inner),
          w_(inDouble(byInputChannel(fit.weights, fit.layout))) {}

    std::optional<GptqResult> run() {
        Moments fitRows = withOwn(fit_.moments.fit);
        const Moments heldBack =
            withOwn(fit_.moments.heldBack.rows > 0 ? fit_.moments.heldBack : fit_.moments.fit);
        solveOn(fitRows);
        const auto nearest = quantizeWeights(fit_.weights, fit_.layout, fit_.rule);
        if (!nearest) return std::nullopt;
        GptqResult result;
        result.nearestError = judged(*nearest, fitRows, heldBack);
        Choice best{-1};
        double bestError = result.nearestError;
        const auto consider = [&](const Choice& choice) {
            const double error = judged(solved(choice), fitRows, heldBack);
            if (error < bestError) {
                bestError = error;
                best = choice;
            }
        };
        const double firstDamp = fit_.damps[fit_.damps.size() / 2];
        if (fit_.target != GptqTarget::original || fitRows.targets.size() == 1) consider({0, 0, firstDamp});
        if (fit_.target != GptqTarget::own)
            for (int target = 1; target < static_cast<int>(fitRows.targets.size()); ++target)
                for (const double ridge : kRidges) consider({target, ridge, firstDamp});
        Choice chosen = best.target < 0 ? Choice{0, 0, firstDamp} : best;
        for (const double damp : fit_.damps) {
            if (damp == firstDamp) continue;
            chosen.damp = damp;
            consider(chosen);
        }
        if (best.target >= 0 && fit_.sweeps > 0) {
            chosen = best;
            chosen.sweeps = fit_.sweeps;
            consider(chosen);
        }
        result.error = relative(bestError, heldBack);
        result.nearestError = relative(result.nearestError, heldBack);
        result.nearest = best.target < 0;
        result.fromOriginal = best.target > 0;
        result.damp = best.damp;
        result.descended = best.sweeps > 0;
        if (fit_.moments.heldBack.rows > 0) {
            Moments all = fit_.moments.fit;
            all += fit_.moments.heldBack;
            fitRows = withOwn(std::move(all));
            solveOn(fitRows);
        }
        result.weights = result.nearest ? *nearest : solved(best);
        if (fit_.hasBias)
            for (const double change : biasFor(map(result.weights), fitRows))
                result.biasChange.push_back(static_cast<float>(change));
        return result;
    }

  private:
    /// Own output first, then the targets given.
    Moments withOwn(Moments moments) const {
        moments.targets.insert(moments.targets.begin(), ownTarget(moments, w_, outputs_));
        return moments;
    }

    void solveOn(const Moments& moments) { solve_ = fit_.hasBias ? centred(moments) : moments; }

    QuantizedWeights solved(const Choice& choice) const {
        std::vector<float> regressedWeights;
        std::span<const float> weights = fit_.weights;
        if (choice.target > 0) {
            regressedWeights = fromInputChannels(
                regressed(solve_, solve_.targets[static_cast<std::size_t>(choice.target)], w_, choice.ridge),
                fit_.layout);
            weights = regressedWeights;
        }
        auto result = quantizeByGptq(weights, fit_.layout, fit_.rule, solve_.gram,
                                     {choice.damp, fit_.order, fit_.blockSize});
        TCOMPRESS_CHECK(result.has_value(), "finite weights became infinite");
        if (choice.sweeps > 0) descend(*result, weights, solve_.gram, {choice.sweeps, choice.damp});
        return std::move(*result);
    }

    std::vector<double> map(const QuantizedWeights& weights) const {
        return inDouble(byInputChannel(dequantizeWeights(weights), fit_.layout));
    }

    /// The constant that makes the mean error zero, for the target that all are judged by.
    std::vector<double> biasFor(std::span<const double> map, const Moments& moments) const {
        const Moments::Cross& target = moments.targets.back();
        std::vector<double> bias(target.sum);
        for (std::int64_t i = 0; i < moments.inputs; ++i)
            for (std::int64_t c = 0; c < outputs_; ++c)
                bias[static_cast<std::size_t>(c)] -= moments.sum[static_cast<std::size_t>(i)] *
                                                     map[static_cast<std::size_t>(i * outputs_ + c)];
        for (double& value : bias) value /= static_cast<double>(std::max<std::int64_t>(1, moments.rows));
        return bias;
    }

    double judged(const QuantizedWeights& weights, const Moments& fitRows, const Moments& heldBack) const {
        const std::vector<double> map = this->map(weights);
        const std::vector<double> bias = fit_.hasBias ? biasFor(map, fitRows) : std::vector<double>{};
        const std::vector<double> errors = heldBack.squaredErrors(heldBack.targets.size() - 1, map, bias);
        return std::accumulate(errors.begin(), errors.end(), 0.0);
    }

    static double relative(double error, const Moments& moments) {
        const std::vector<double>& squares = moments.targets.back().squares;
        const double all = std::accumulate(squares.begin(), squares.end(), 0.0);
        return all > 0 ? std::sqrt(error / all) : 0;
    }

    const GptqFit& fit_;
    std::int64_t outputs_;
    std::vector<double> w_;  ///< [inputs, outputs]
    Moments solve_;
};

}  // namespace

std::optional<GptqResult> fitGptq(const GptqFit& fit) {
    TCOMPRESS_CHECK(!fit.damps.empty(), "GPTQ without a damping");
    return Fitter(fit).run();
}

}  // namespace tcompress::passes
