#include "passes/quantize/solver/gptq_fit.h"

#include <algorithm>
#include <cmath>

#include "kernels/linalg.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/solver/code_descent.h"
#include "passes/quantize/solver/layer_judge.h"

namespace tcompress::passes {
namespace {

using calibration::Moments;
using kernels::Transposition;

/// λ of the regression towards W, as multiples of the mean diagonal of the moments.
constexpr double kRidges[] = {0.1, 1.0};

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

/// Moments about the mean: what is left for the weights where a constant takes up the mean.
Moments centred(const Moments& moments) {
    Moments result;
    result.rows = moments.rows;
    result.inputs = moments.inputs;
    result.gram = centredGram(moments);
    const auto rows = static_cast<double>(std::max<std::int64_t>(1, moments.rows));
    for (Moments::Cross cross : moments.targets) {
        parallelFor(moments.inputs, [&](std::int64_t i) {
            const double mean = moments.sum[static_cast<std::size_t>(i)] / rows;
            for (std::int64_t c = 0; c < cross.outputs; ++c)
                cross.product[static_cast<std::size_t>(i * cross.outputs + c)] -=
                    mean * cross.sum[static_cast<std::size_t>(c)];
        });
        result.targets.push_back(std::move(cross));
    }
    return result;
}

double meanDiagonal(const Moments& moments) {
    double sum = 0;
    for (std::int64_t i = 0; i < moments.inputs; ++i)
        sum += moments.gram[static_cast<std::size_t>(i * moments.inputs + i)];
    return sum / static_cast<double>(std::max<std::int64_t>(1, moments.inputs));
}

/// Chol(XᵀX + λI); empty where there is nothing to fit to.
std::vector<double> ridgeFactor(const Moments& moments, double lambda) {
    if (!(lambda > 0)) return {};
    std::vector<double> factor = moments.gram;
    for (std::int64_t i = 0; i < moments.inputs; ++i)
        factor[static_cast<std::size_t>(i * moments.inputs + i)] += lambda;
    kernels::cholesky(factor, moments.inputs);
    return factor;
}

/// argmin ‖X·V − Y‖² + λ‖V − W‖².
std::vector<double> regressed(std::span<const double> factor, const Moments& moments, const Moments::Cross& target,
                              std::span<const float> w, double lambda) {
    if (factor.empty()) return {w.begin(), w.end()};
    std::vector<double> solution = target.product;
    for (std::size_t i = 0; i < solution.size(); ++i) solution[i] += lambda * static_cast<double>(w[i]);
    for (const Transposition transposition : {Transposition::no, Transposition::yes})
        kernels::solveTriangular(kernels::Triangle::lower, transposition, factor, moments.inputs, solution,
                                 target.outputs);
    return solution;
}

/// One way to solve the layer. `target` −1: rounding to nearest; 0: the layer's own output; else the place in the
/// moments' targets, plus 1.
struct Choice {
    int target = 0;
    double ridge = 0;
    double damp = 0.01;
    std::int64_t sweeps = 0;
};

/// Solves the layer on some rows in any number of ways; factors and grids that ways in turn share are made once.
class LayerSolver {
  public:
    /// `nearest`: the layer's own weights, rounded to nearest.
    LayerSolver(const GptqFit& fit, std::span<const float> w, const QuantizedWeights& nearest, const Moments& moments)
        : fit_(fit), w_(w), nearest_(nearest), moments_(fit.hasBias ? centred(moments) : moments) {}

    QuantizedWeights solve(const Choice& choice) {
        const std::span<const float> weights = aim(choice);
        if (damp_ != choice.damp) {
            feedback_ = feedbackFactor(moments_.gram, moments_.inputs, choice.damp, fit_.order);
            damp_ = choice.damp;
        }
        auto result = roundByGptq(weights, choice.target == 0 ? nearest_ : regressedGrids(), feedback_, fit_.blockSize);
        if (choice.sweeps > 0) descendFrom(result, choice);
        return result;
    }

    /// The descent alone, from what a choice without it has given.
    void descendFrom(QuantizedWeights& solved, const Choice& choice) {
        descend(solved, aim(choice), moments_.gram, {choice.sweeps, choice.damp});
    }

  private:
    /// What the weights would be if they needed no rounding.
    std::span<const float> aim(const Choice& choice) {
        if (choice.target == 0) return fit_.weights;
        if (regressedTo_ == choice.target && ridge_ == choice.ridge) return regressed_;
        const double lambda = choice.ridge * meanDiagonal(moments_);
        if (ridge_ != choice.ridge) ridgeFactor_ = ridgeFactor(moments_, lambda);
        const Moments::Cross& target = moments_.targets[static_cast<std::size_t>(choice.target - 1)];
        regressed_ =
            fromInputChannels(regressed(ridgeFactor_, moments_, target, w_, lambda), fit_.layout);
        grids_.reset();
        regressedTo_ = choice.target;
        ridge_ = choice.ridge;
        return regressed_;
    }

    const QuantizedWeights& regressedGrids() {
        if (!grids_) grids_ = quantizeWeights(regressed_, fit_.layout, fit_.rule);
        TCOMPRESS_CHECK(grids_.has_value(), "finite weights became infinite");
        return *grids_;
    }

    const GptqFit& fit_;
    std::span<const float> w_;
    const QuantizedWeights& nearest_;
    Moments moments_;
    double damp_ = -1, ridge_ = -1;  ///< that the factors are of
    int regressedTo_ = -1;
    FeedbackFactor feedback_;
    std::vector<double> ridgeFactor_;
    std::vector<float> regressed_;
    std::optional<QuantizedWeights> grids_;  ///< of them
};

class Fitter {
  public:
    explicit Fitter(const GptqFit& fit)
        : fit_(fit),
          outputs_(fit.layout.outer * fit.layout.inner),
          w_(byInputChannel(fit.weights, fit.layout)),
          judge_(fit.moments.heldBack.rows > 0 ? fit.moments.heldBack : fit.moments.fit, w_, outputs_) {}

    std::optional<GptqResult> run() {
        auto nearest = quantizeWeights(fit_.weights, fit_.layout, fit_.rule);
        if (!nearest) return std::nullopt;
        GptqResult result;
        best_ = {Choice{-1}, *nearest, 0};
        best_.error = judged(best_.weights);
        result.nearestError = relative(best_.error);
        choose(*nearest);
        result.error = relative(best_.error);
        result.nearest = best_.choice.target < 0;
        result.fromOriginal = best_.choice.target > 0;
        result.damp = best_.choice.damp;
        result.descended = best_.choice.sweeps > 0;
        const Moments all = allRows();
        result.weights = result.nearest || fit_.moments.heldBack.rows == 0
                             ? std::move(best_.weights)
                             : LayerSolver(fit_, w_, *nearest, all).solve(best_.choice);
        if (fit_.hasBias)
            for (const double change : unbiasing(all, w_, map(result.weights), outputs_))
                result.biasChange.push_back(static_cast<float>(change));
        return result;
    }

  private:
    struct Tried {
        Choice choice;
        QuantizedWeights weights;
        double error = 0;
    };

    /// Solves on the rows to fit to, in all the ways there are, and keeps the best.
    void choose(const QuantizedWeights& nearest) {
        LayerSolver solver(fit_, w_, nearest, fit_.moments.fit);
        const auto consider = [&](const Choice& choice) { keepBetter(choice, solver.solve(choice)); };
        const auto targets = static_cast<int>(fit_.moments.fit.targets.size());
        const double firstDamp = fit_.damps[fit_.damps.size() / 2];
        if (fit_.target != GptqTarget::original || targets == 0) consider({0, 0, firstDamp});
        if (fit_.target != GptqTarget::own)
            for (const double ridge : kRidges)
                for (int target = 1; target <= targets; ++target) consider({target, ridge, firstDamp});
        Choice chosen = solved_;
        for (const double damp : fit_.damps) {
            if (damp == firstDamp) continue;
            chosen.damp = damp;
            consider(chosen);
        }
        if (best_.choice.target < 0 || fit_.sweeps == 0) return;
        chosen = best_.choice;
        chosen.sweeps = fit_.sweeps;
        QuantizedWeights descended = best_.weights;
        solver.descendFrom(descended, chosen);
        keepBetter(chosen, std::move(descended));
    }

    void keepBetter(const Choice& choice, QuantizedWeights weights) {
        const double error = judged(weights);
        if (error < solvedError_) solved_ = choice, solvedError_ = error;
        if (error < best_.error) best_ = {choice, std::move(weights), error};
    }

    Moments allRows() const {
        Moments all = fit_.moments.fit;
        all += fit_.moments.heldBack;
        return all;
    }

    std::vector<float> map(const QuantizedWeights& weights) const {
        return byInputChannel(dequantizeWeights(weights), fit_.layout);
    }

    double judged(const QuantizedWeights& weights) const {
        const std::vector<float> map = this->map(weights);
        const std::vector<double> bias =
            fit_.hasBias ? unbiasing(fit_.moments.fit, w_, map, outputs_) : std::vector<double>{};
        return judge_.squaredError(map, bias);
    }

    double relative(double error) const {
        return judge_.squaredTarget() > 0 ? std::sqrt(error / judge_.squaredTarget()) : 0;
    }

    const GptqFit& fit_;
    std::int64_t outputs_;
    std::vector<float> w_;  ///< [inputs, outputs]
    LayerJudge judge_;
    Tried best_;
    Choice solved_;  ///< the best of those that are not rounding to nearest
    double solvedError_ = HUGE_VAL;
};

}  // namespace

std::optional<GptqResult> fitGptq(const GptqFit& fit) {
    TCOMPRESS_CHECK(!fit.damps.empty(), "GPTQ without a damping");
    return Fitter(fit).run();
}

}  // namespace tcompress::passes
