#include "passes/share/shared_fit.h"

#include <algorithm>

#include "kernels/linalg.h"

namespace tcompress::passes {
namespace {

using kernels::Transposition;
using kernels::Triangle;

/// Solves (A + ε·I)·X = B + ε·before for positive semi-definite A: where A says nothing, X stays what it was, and the
/// step still cannot raise the loss.
std::vector<double> solveNear(std::vector<double> a, std::vector<double> b, const std::vector<double>& before,
                              std::int64_t n, std::int64_t columns) {
    double trace = 0;
    for (std::int64_t i = 0; i < n; ++i) trace += a[static_cast<std::size_t>(i * n + i)];
    const double epsilon = std::max(1e-7 * trace / static_cast<double>(n), 1e-300);
    for (std::int64_t i = 0; i < n; ++i) a[static_cast<std::size_t>(i * n + i)] += epsilon;
    for (std::size_t i = 0; i < b.size(); ++i) b[i] += epsilon * before[i];
    kernels::cholesky(a, n);
    kernels::solveTriangular(Triangle::lower, Transposition::no, a, n, b, columns);
    kernels::solveTriangular(Triangle::lower, Transposition::yes, a, n, b, columns);
    return b;
}

std::vector<double> product(const std::vector<double>& a, const std::vector<double>& b, std::int64_t m,
                            std::int64_t n, std::int64_t inner, Transposition second = Transposition::no) {
    std::vector<double> c(static_cast<std::size_t>(m * n));
    kernels::gemm(Transposition::no, second, m, n, inner, a, b, c);
    return c;
}

class Alternation {
  public:
    Alternation(const std::vector<LayerOptimum>& layers, SharedWeights start)
        : layers_(layers),
          shared_(std::move(start)),
          inputs_(static_cast<std::int64_t>(shared_.scales.front().size())),
          outputs_(static_cast<std::int64_t>(shared_.weight.size()) / inputs_) {
        for (const LayerOptimum& layer : layers)
            targets_.push_back(product(layer.hessian, layer.optimum, inputs_, outputs_, inputs_));
    }

    void solveWeight() {
        std::vector<double> a(static_cast<std::size_t>(inputs_ * inputs_)), b(shared_.weight.size());
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            const std::vector<double>& scale = shared_.scales[l];
            const double importance = layers_[l].importance;
            std::size_t next = 0, nextOut = 0;
            for (const double left : scale) {
                for (const double right : scale) {
                    a[next] += importance * left * right * layers_[l].hessian[next];
                    ++next;
                }
                for (std::int64_t o = 0; o < outputs_; ++o, ++nextOut)
                    b[nextOut] += importance * left * targets_[l][nextOut];
            }
        }
        shared_.weight = solveNear(std::move(a), std::move(b), shared_.weight, inputs_, outputs_);
    }

    void solveScales() {
        const std::vector<double> rows =
            product(shared_.weight, shared_.weight, inputs_, inputs_, outputs_, Transposition::yes);
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            std::vector<double> a = layers_[l].hessian, b(shared_.scales[l].size());
            for (std::size_t i = 0; i < a.size(); ++i) a[i] *= rows[i];
            std::size_t next = 0;
            for (double& sum : b)
                for (std::int64_t o = 0; o < outputs_; ++o, ++next) sum += targets_[l][next] * shared_.weight[next];
            shared_.scales[l] = solveNear(std::move(a), std::move(b), shared_.scales[l], inputs_, 1);
        }
    }

    SharedWeights take() { return std::move(shared_); }

  private:
    const std::vector<LayerOptimum>& layers_;
    SharedWeights shared_;
    std::int64_t inputs_, outputs_;
    std::vector<std::vector<double>> targets_;  // H·W*
};

}  // namespace

std::vector<double> weightsOf(const SharedWeights& shared, std::size_t layer) {
    std::vector<double> result = shared.weight;
    const std::vector<double>& scale = shared.scales[layer];
    const std::size_t outputs = result.size() / scale.size();
    for (std::size_t i = 0; i < result.size(); ++i) result[i] *= scale[i / outputs];
    return result;
}

SharedWeights fitShared(const std::vector<LayerOptimum>& layers, SharedWeights start, int rounds) {
    Alternation alternation(layers, std::move(start));
    for (int round = 0; round < rounds; ++round) {
        alternation.solveWeight();
        alternation.solveScales();
    }
    alternation.solveWeight();
    return alternation.take();
}

double sharedLoss(const std::vector<LayerOptimum>& layers, const SharedWeights& shared) {
    const auto inputs = static_cast<std::int64_t>(shared.scales.front().size());
    const auto outputs = static_cast<std::int64_t>(shared.weight.size()) / inputs;
    double loss = 0;
    for (std::size_t l = 0; l < layers.size(); ++l) {
        std::vector<double> difference = weightsOf(shared, l);
        for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= layers[l].optimum[i];
        const std::vector<double> weighted = product(layers[l].hessian, difference, inputs, outputs, inputs);
        for (std::size_t i = 0; i < difference.size(); ++i)
            loss += layers[l].importance * difference[i] * weighted[i];
    }
    return loss;
}

}  // namespace tcompress::passes
