#include "passes/support/proximal_step.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "kernels/linalg.h"
#include "kernels/transpose.h"
#include "lib/support/parallel.h"
#include "passes/support/two_sided_product.h"

namespace tcompress::passes {
namespace {

/// A matrix of eigenvectors, one a column, and turned about.
struct Rotation {
    explicit Rotation(kernels::SymmetricEigen eigen) : into(eigen.vectors.begin(), eigen.vectors.end()), outOf(into.size()) {
        const auto size = std::ssize(eigen.values);
        kernels::transpose(into.data(), sizeof(float), std::array{size, size}, std::array<std::int64_t, 2>{1, 0}, outOf.data());
        // What is negative is rounding.
        for (const double value : eigen.values) values.push_back(static_cast<float>(std::max(value, 0.0)));
    }
    std::vector<float> into, outOf, values;
};

class Eigenbasis {
  public:
    Eigenbasis(const Rotation& inputs, const Rotation& outputs)
        : into_(outputs.outOf, inputs.into, std::ssize(inputs.values)),
          outOf_(outputs.into, inputs.outOf, std::ssize(inputs.values)), inputs_(inputs.values), outputs_(outputs.values) {}

    void step(float penalty, const std::vector<float>& difference, const std::vector<float>& target, std::vector<float>& x) {
        turned_.resize(difference.size());
        into_(difference, turned_);
        constexpr std::int64_t kOutputsAtOnce = 16;
        parallelRanges(std::ssize(outputs_), kOutputsAtOnce, [&](std::int64_t begin, std::int64_t end) {
            for (auto o = static_cast<std::size_t>(begin); o < static_cast<std::size_t>(end); ++o)
                for (std::size_t i = 0; i < inputs_.size(); ++i)
                    turned_[o * inputs_.size() + i] *= penalty / (outputs_[o] * inputs_[i] + penalty);
        });
        outOf_(turned_, x, target);
    }

  private:
    TwoSidedProduct into_, outOf_;
    std::vector<float> inputs_, outputs_, turned_;  ///< eigenvalues; a matrix in their basis
};

}  // namespace

ProximalSteps proximalSteps(std::vector<double> hessian, std::int64_t inputs) {
    return [hessian = std::move(hessian), inputs](double penalty) {
        std::vector<double> inverse = hessian;
        for (std::int64_t i = 0; i < inputs; ++i) inverse[static_cast<std::size_t>(i * inputs + i)] += penalty;
        kernels::invertPositiveDefinite(inverse, inputs);
        std::vector<float> narrow(inverse.size());
        for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = static_cast<float>(penalty * inverse[i]);
        return [multiply = TwoSidedProduct({}, narrow, inputs)](const auto& difference, const auto& target, auto& x) mutable {
            multiply(difference, x, target);
        };
    };
}

ProximalSteps proximalSteps(std::vector<double> hessian, std::int64_t inputs, std::vector<double> outputMetric, std::int64_t outputs) {
    std::array<kernels::SymmetricEigen, 2> eigen;
    parallelFor(2, [&](std::int64_t side) {
        eigen[static_cast<std::size_t>(side)] =
            side == 0 ? kernels::symmetricEigen(std::move(hessian), inputs) : kernels::symmetricEigen(std::move(outputMetric), outputs);
    });
    return [basis = std::make_shared<Eigenbasis>(Rotation(std::move(eigen[0])), Rotation(std::move(eigen[1])))](double penalty) {
        return [basis, penalty](const auto& difference, const auto& target, auto& x) {
            basis->step(static_cast<float>(penalty), difference, target, x);
        };
    };
}

}  // namespace tcompress::passes
