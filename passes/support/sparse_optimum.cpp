#include "passes/support/sparse_optimum.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>

#include "lib/support/parallel.h"
#include "passes/support/two_sided_product.h"

namespace tcompress::passes {
namespace {

/// Conjugate gradients at one output: its row of the matrices, which are outputs × inputs. Sums go to the one who knows
/// which outputs are one problem.
struct Row {
    std::span<float> x, residual, direction;
    std::span<const float> product;             ///< row of A · directions · H
    const std::vector<float>& inverseDiagonal;  ///< 1 / Hᵢᵢ
    float inverseOwn;                           ///< 1 / Aₒₒ
    std::vector<char> stays;

    float preconditioned(std::size_t i) const { return residual[i] * inverseDiagonal[i] * inverseOwn; }

    /// `product` is that of W* − x. The energy: the gradient's square.
    double begin() {
        double energy = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            residual[i] = stays[i] != 0 ? product[i] : 0.0F;
            direction[i] = preconditioned(i);
            energy += static_cast<double>(residual[i]) * static_cast<double>(direction[i]);
        }
        return energy;
    }

    double curvature() const {
        double sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(direction[i]) * static_cast<double>(product[i]);
        return sum;
    }

    /// The energy where it has got to.
    double advance(float length) {
        double energy = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            x[i] += length * direction[i];
            if (stays[i] == 0) continue;
            residual[i] -= length * product[i];
            energy += static_cast<double>(residual[i]) * static_cast<double>(residual[i]) *
                      static_cast<double>(inverseDiagonal[i]) * static_cast<double>(inverseOwn);
        }
        return energy;
    }

    void turn(float kept) {
        for (std::size_t i = 0; i < x.size(); ++i) direction[i] = preconditioned(i) + kept * direction[i];
    }
};

constexpr int kIterationsAnOutput = 40;
/// One problem of all outputs is conditioned worse: on a feed-forward layer of MiniLM-L6 with 1 % added to both diagonals it takes
/// some 300 iterations from nothing, and 10 from what alternatingDirections() found. It ends when a window of them
/// takes less than this share of the loss.
constexpr int kIterations = 400, kWindow = 10;
constexpr double kWorthIt = 1e-3;

double ratio(double a, double b) { return b > 0 ? a / b : 0.0; }

}  // namespace

std::vector<double> conditioned(std::vector<double> outputMetric, std::int64_t outputs) {
    if (outputMetric.empty()) return outputMetric;
    constexpr double kLeast = 1e-6;
    const auto size = static_cast<std::size_t>(outputs);
    double mean = 0;
    for (std::size_t o = 0; o < size; ++o) mean += outputMetric[o * size + o] / static_cast<double>(outputs);
    for (double& value : outputMetric) value = ratio(value, mean);
    for (std::size_t o = 0; o < size; ++o) {
        double& own = outputMetric[o * size + o];
        own = mean > 0 ? std::max(own, kLeast) : 1.0;
    }
    return outputMetric;
}

std::vector<double> sparseOptimum(const std::vector<double>& hessian, const std::vector<double>& optimum,
                                  std::int64_t outputs, const SparseMask& mask, const std::vector<double>& start,
                                  const std::vector<double>& outputMetric) {
    const std::vector<double>& from = start.empty() ? optimum : start;
    const std::vector<double> metric = conditioned(outputMetric, outputs);
    const bool isOneProblem = !metric.empty();
    const auto inputs = static_cast<std::int64_t>(optimum.size()) / outputs;
    TwoSidedProduct multiply({metric.begin(), metric.end()}, std::vector<float>(hessian.begin(), hessian.end()), inputs);
    std::vector<float> x(optimum.size()), residual(optimum.size()), direction(optimum.size()), product(optimum.size());
    std::vector<float> inverse(static_cast<std::size_t>(inputs));
    for (std::int64_t i = 0; i < inputs; ++i)
        inverse[static_cast<std::size_t>(i)] = static_cast<float>(1 / hessian[static_cast<std::size_t>(i * inputs + i)]);
    const auto rowOf = [&](std::vector<float>& values, std::int64_t o) {
        return std::span(values).subspan(static_cast<std::size_t>(o * inputs), static_cast<std::size_t>(inputs));
    };
    std::vector<Row> rows;
    for (std::int64_t o = 0; o < outputs; ++o) {
        const double own = isOneProblem ? metric[static_cast<std::size_t>(o * outputs + o)] : 1.0;
        rows.push_back({rowOf(x, o), rowOf(residual, o), rowOf(direction, o), rowOf(product, o), inverse, static_cast<float>(1 / own),
                        std::vector<char>(static_cast<std::size_t>(inputs))});
    }
    const auto each = [&](const std::function<void(std::size_t, Row&)>& body) {
        constexpr std::int64_t kOutputsAtOnce = 16;
        parallelRanges(outputs, kOutputsAtOnce, [&](std::int64_t begin, std::int64_t end) {
            for (auto o = static_cast<std::size_t>(begin); o < static_cast<std::size_t>(end); ++o) body(o, rows[o]);
        });
    };
    // Of the problem that each output belongs to.
    const auto sums = [&](const std::function<double(std::size_t, Row&)>& body) {
        std::vector<double> result(rows.size());
        each([&](std::size_t o, Row& row) { result[o] = body(o, row); });
        if (isOneProblem) std::fill(result.begin(), result.end(), std::accumulate(result.begin(), result.end(), 0.0));
        return result;
    };
    const auto weightOf = [&](std::size_t o, std::size_t i) { return i * rows.size() + o; };
    each([&](std::size_t o, Row& row) {
        for (std::size_t i = 0; i < row.x.size(); ++i) {
            const std::size_t place = weightOf(o, i);
            row.stays[i] = mask[place] ? 1 : 0;
            row.x[i] = mask[place] ? static_cast<float>(from[place]) : 0.0F;
            row.direction[i] = static_cast<float>(optimum[place]) - row.x[i];
        }
    });
    multiply(direction, product);
    // Of W* − x: the loss.
    double loss = sums([](std::size_t, const Row& row) { return row.curvature(); }).front(), lossBefore = 2 * loss;
    std::vector<double> energy = sums([](std::size_t, Row& row) { return row.begin(); });
    // Of the energy at the start. What was swept is near already.
    const double tolerance = start.empty() || isOneProblem ? 1e-8 : 1e-4;
    std::vector<double> goal = energy;
    for (double& value : goal) value *= tolerance;
    const auto isBusy = [&] { return !std::equal(energy.begin(), energy.end(), goal.begin(), std::less_equal<>()); };
    const int most = isOneProblem ? kIterations : kIterationsAnOutput;
    for (int i = 0; i < most && isBusy(); ++i) {
        if (isOneProblem && i % kWindow == 0) {
            if (lossBefore - loss < kWorthIt * lossBefore) break;
            lossBefore = loss;
        }
        multiply(direction, product);
        const std::vector<double> curvature = sums([](std::size_t, const Row& row) { return row.curvature(); });
        loss -= energy.front() * ratio(energy.front(), curvature.front());
        const std::vector<double> next = sums([&](std::size_t o, Row& row) {
            return row.advance(static_cast<float>(ratio(energy[o], curvature[o])));
        });
        each([&](std::size_t o, Row& row) { row.turn(static_cast<float>(ratio(next[o], energy[o]))); });
        energy = next;
    }
    std::vector<double> result(optimum.size());
    each([&](std::size_t o, const Row& row) {
        for (std::size_t i = 0; i < row.x.size(); ++i) result[weightOf(o, i)] = static_cast<double>(row.x[i]);
    });
    return result;
}

}  // namespace tcompress::passes
