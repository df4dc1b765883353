#include "passes/quantize/solver/layer_judge.h"

#include <algorithm>
#include <numeric>

#include "kernels/linalg.h"
#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/support/centred.h"

namespace tcompress::passes {
namespace {

using calibration::Moments;

double rowsOf(const Moments& moments) { return static_cast<double>(std::max<std::int64_t>(1, moments.rows)); }

std::vector<double> meansOf(const std::vector<double>& sums, double rows) {
    std::vector<double> means(sums);
    for (double& mean : means) mean /= rows;
    return means;
}

TCOMPRESS_MULTIVERSION void addMultiple(double* target, const float* source, double factor, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) target[i] += factor * static_cast<double>(source[i]);
}

/// x̄ᵀM for M [inputs, outputs].
std::vector<double> meanOutput(const std::vector<double>& mean, std::span<const float> matrix,
                               std::int64_t outputs) {
    std::vector<double> result(static_cast<std::size_t>(outputs), 0.0);
    for (std::size_t i = 0; i < mean.size(); ++i)
        addMultiple(result.data(), matrix.data() + static_cast<std::int64_t>(i) * outputs, mean[i], outputs);
    return result;
}

std::vector<float> difference(std::span<const float> a, std::span<const float> b) {
    TCOMPRESS_CHECK(a.size() == b.size(), "weights of different sizes are compared");
    std::vector<float> result(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) result[i] = a[i] - b[i];
    return result;
}

}  // namespace

std::vector<double> centredGram(const Moments& moments) {
    const std::int64_t n = moments.inputs;
    const double rows = rowsOf(moments);
    std::vector<double> gram(moments.gram.size());
    parallelFor(n, [&](std::int64_t row) {
        const double mean = moments.sum[static_cast<std::size_t>(row)] / rows;
        for (std::int64_t column = 0; column < n; ++column) {
            const auto at = static_cast<std::size_t>(row * n + column);
            gram[at] = moments.gram[at] - mean * moments.sum[static_cast<std::size_t>(column)];
        }
    });
    clearRounding(gram, moments.gram, static_cast<std::size_t>(n));
    return gram;
}

LayerJudge::LayerJudge(const Moments& moments, std::span<const float> weights, std::int64_t outputs)
    : weights_(weights),
      outputs_(outputs),
      rows_(rowsOf(moments)),
      mean_(meansOf(moments.sum, rows_)),
      metric_(centredGram(moments), moments.inputs) {
    const std::int64_t n = moments.inputs;
    const std::vector<double> ownMean = meanOutput(mean_, weights, outputs);
    if (moments.targets.empty()) {
        squaredTarget_ = metric_.energy(weights);
        for (const double mean : ownMean) squaredTarget_ += rows_ * mean * mean;
        return;
    }
    const Moments::Cross& target = moments.targets.back();
    TCOMPRESS_CHECK(target.outputs == outputs, "a target of other outputs than the layer's");
    squaredTarget_ = std::accumulate(target.squares.begin(), target.squares.end(), 0.0);
    residualMean_ = meansOf(target.sum, rows_);
    for (std::size_t c = 0; c < residualMean_.size(); ++c) residualMean_[c] -= ownMean[c];
    // XᵀR = XᵀY − XᵀX·W, and ‖R‖² = ‖Y‖² − ⟨W, XᵀY + XᵀR⟩.
    cross_.resize(target.product.size());
    kernels::gemm(kernels::Transposition::no, kernels::Transposition::no, n, outputs, n, moments.gram,
                  std::vector<double>(weights.begin(), weights.end()), cross_);
    std::vector<double> taken(static_cast<std::size_t>(n));
    parallelFor(n, [&](std::int64_t i) {
        const double sum = moments.sum[static_cast<std::size_t>(i)];
        double products = 0;
        for (std::int64_t c = 0; c < outputs; ++c) {
            const auto at = static_cast<std::size_t>(i * outputs + c);
            const double residual = target.product[at] - cross_[at];
            products += static_cast<double>(weights[at]) * (target.product[at] + residual);
            cross_[at] = residual - sum * residualMean_[static_cast<std::size_t>(c)];
        }
        taken[static_cast<std::size_t>(i)] = products;
    });
    squaredResidual_ = squaredTarget_ - std::accumulate(taken.begin(), taken.end(), 0.0);
    for (const double mean : residualMean_) squaredResidual_ -= rows_ * mean * mean;
}

double LayerJudge::squaredError(std::span<const float> map, std::span<const double> bias) const {
    const std::vector<float> change = difference(map, weights_);
    double error = metric_.energy(change) + squaredResidual_;
    if (!cross_.empty()) {
        std::vector<double> rows(mean_.size());
        parallelFor(std::ssize(rows), [&](std::int64_t i) {
            double sum = 0;
            for (std::int64_t at = i * outputs_; at < (i + 1) * outputs_; ++at)
                sum += static_cast<double>(change[static_cast<std::size_t>(at)]) *
                       cross_[static_cast<std::size_t>(at)];
            rows[static_cast<std::size_t>(i)] = sum;
        });
        error -= 2 * std::accumulate(rows.begin(), rows.end(), 0.0);
    }
    std::vector<double> means = meanOutput(mean_, change, outputs_);
    for (std::size_t c = 0; c < means.size(); ++c) {
        if (!residualMean_.empty()) means[c] -= residualMean_[c];
        if (!bias.empty()) means[c] += bias[c];
        error += rows_ * means[c] * means[c];
    }
    return std::max(0.0, error);
}

std::vector<double> unbiasing(const Moments& moments, std::span<const float> weights, std::span<const float> map,
                              std::int64_t outputs) {
    const double rows = rowsOf(moments);
    const std::vector<double> mean = meansOf(moments.sum, rows);
    // What the mean output should be, less what it is.
    std::vector<double> bias = moments.targets.empty() ? meanOutput(mean, weights, outputs)
                                                       : meansOf(moments.targets.back().sum, rows);
    const std::vector<double> has = meanOutput(mean, map, outputs);
    for (std::size_t c = 0; c < bias.size(); ++c) bias[c] -= has[c];
    return bias;
}

}  // namespace tcompress::passes
