#include "passes/support/refit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "kernels/gram.h"
#include "kernels/linalg.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/support/centred.h"
#include "passes/support/ridge_descent.h"

namespace tcompress::passes {

using kernels::Transposition;
using kernels::Triangle;

namespace {

std::size_t at(std::int64_t row, std::int64_t columns, std::int64_t column = 0) {
    return static_cast<std::size_t>(row * columns + column);
}

std::size_t area(std::int64_t rows, std::int64_t columns) { return static_cast<std::size_t>(rows * columns); }

void addTo(std::vector<double>& target, const std::vector<double>& more) {
    TCOMPRESS_CHECK(target.size() == more.size(), "sums of layers of different shapes");
    for (std::size_t i = 0; i < target.size(); ++i) target[i] += more[i];
}

std::vector<double> rowsOf(const std::vector<double>& matrix, std::int64_t columns,
                           const std::vector<std::int64_t>& rows) {
    std::vector<double> result;
    result.reserve(rows.size() * static_cast<std::size_t>(columns));
    for (const std::int64_t row : rows)
        result.insert(result.end(), matrix.begin() + row * columns, matrix.begin() + (row + 1) * columns);
    return result;
}

/// Every `stride`-th column from `begin` on, before `end`.
struct ColumnRange {
    std::int64_t begin = 0, end = 0, stride = 1;
    std::int64_t count() const { return (end - begin + stride - 1) / stride; }
};

/// Some columns of a matrix, dense.
std::vector<double> columnsOf(const std::vector<double>& matrix, std::int64_t rows, std::int64_t columns,
                              const ColumnRange& range) {
    std::vector<double> result;
    result.reserve(area(rows, range.count()));
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t column = range.begin; column < range.end; column += range.stride)
            result.push_back(matrix[at(row, columns, column)]);
    return result;
}

/// Σ a·b, and the columns of a added to `sum`.
double addRows(std::span<const float> a, std::span<const float> b, std::vector<double>& sum) {
    double product = 0;
    for (std::size_t i = 0; i < a.size(); i += sum.size())
        for (std::size_t c = 0; c < sum.size(); ++c) {
            sum[c] += a[i + c];
            product += static_cast<double>(a[i + c]) * static_cast<double>(b[i + c]);
        }
    return product;
}

}  // namespace

LayerSums::LayerSums(std::int64_t inputCount, std::int64_t outputCount)
    : inputs(inputCount),
      outputs(outputCount),
      xx(area(inputs, inputs)),
      xy(area(inputs, outputs)),
      x(static_cast<std::size_t>(inputs)),
      y(static_cast<std::size_t>(outputs)),
      e(static_cast<std::size_t>(outputs)) {}

void LayerSums::add(std::span<const float> xRows, std::span<const float> yRows, std::span<const float> eRows,
                    std::int64_t count) {
    rows += static_cast<double>(count);
    kernels::accumulateGram(xRows, count, inputs, xx);
    kernels::accumulateCross(xRows, yRows, count, inputs, outputs, xy);
    addRows(xRows, xRows, x);
    yy += addRows(yRows, yRows, y);
    if (eRows.empty()) return;
    if (xe.empty()) xe.resize(area(inputs, outputs));
    kernels::accumulateCross(xRows, eRows, count, inputs, outputs, xe);
    ee += addRows(eRows, eRows, e);
    ye += std::inner_product(yRows.begin(), yRows.end(), eRows.begin(), 0.0);
}

LayerSums& LayerSums::operator+=(const LayerSums& other) {
    rows += other.rows;
    addTo(xx, other.xx);
    addTo(xy, other.xy);
    if (xe.empty())
        xe = other.xe;
    else if (!other.xe.empty())
        addTo(xe, other.xe);
    addTo(x, other.x);
    addTo(y, other.y);
    addTo(e, other.e);
    yy += other.yy;
    ye += other.ye;
    ee += other.ee;
    return *this;
}

LayerSums Evidence::all() const {
    LayerSums sums = fit;
    return sums += held;
}

LayerSums keepInputs(const LayerSums& sums, const std::vector<std::int64_t>& inputs) {
    LayerSums kept(0, sums.outputs);
    kept.inputs = static_cast<std::int64_t>(inputs.size());
    kept.rows = sums.rows;
    for (const std::int64_t row : inputs) {
        for (const std::int64_t column : inputs) kept.xx.push_back(sums.xx[at(row, sums.inputs, column)]);
        kept.x.push_back(sums.x[static_cast<std::size_t>(row)]);
    }
    kept.xy = rowsOf(sums.xy, sums.outputs, inputs);
    if (!sums.xe.empty()) kept.xe = rowsOf(sums.xe, sums.outputs, inputs);
    kept.y = sums.y;
    kept.e = sums.e;
    kept.yy = sums.yy;
    kept.ye = sums.ye;
    kept.ee = sums.ee;
    return kept;
}

namespace {

std::vector<double> columnsOf(const std::vector<double>& matrix, std::int64_t columns, const std::vector<std::int64_t>& kept) {
    std::vector<double> result;
    result.reserve(matrix.size() / static_cast<std::size_t>(columns) * kept.size());
    for (auto row = matrix.begin(); row != matrix.end(); row += columns)
        for (const std::int64_t column : kept) result.push_back(row[column]);
    return result;
}

}  // namespace

LayerSums keepOutputs(const LayerSums& sums, const std::vector<std::int64_t>& outputs) {
    LayerSums kept = sums;
    kept.outputs = std::ssize(outputs);
    for (std::vector<double>* values : {&kept.xy, &kept.xe, &kept.y, &kept.e}) *values = columnsOf(*values, sums.outputs, outputs);
    return kept;
}

Evidence keepOutputs(const Evidence& evidence, const std::vector<std::int64_t>& outputs) {
    return {keepOutputs(evidence.fit, outputs), keepOutputs(evidence.held, outputs)};
}

LinearLayer keepOutputs(const LinearLayer& layer, const std::vector<std::int64_t>& outputs) {
    const std::int64_t all = std::ssize(layer.bias);
    return {columnsOf(layer.weight, all, outputs), columnsOf(layer.bias, all, outputs)};
}

Evidence keepInputs(const Evidence& evidence, const std::vector<std::int64_t>& inputs) {
    return {keepInputs(evidence.fit, inputs), keepInputs(evidence.held, inputs)};
}

LinearLayer keepInputs(const LinearLayer& layer, std::int64_t outputs,
                       const std::vector<std::int64_t>& inputs) {
    return {rowsOf(layer.weight, outputs, inputs), layer.bias};
}

namespace {

constexpr std::int64_t kColumnBlock = 48;

/// tr(UᵀGV) − tr(UᵀD) with G and D extended by the constant input that carries the bias. A block of columns of
/// weights U, V and biases; d and dSum are the same columns of the right-hand side.
struct Columns {
    std::vector<double> weight, bias;
};

/// XᵀX·V + x·bᵀ, and below it the row of the constant input.
Columns times(const LayerSums& sums, const Columns& v) {
    const auto columns = static_cast<std::int64_t>(v.bias.size());
    Columns result{std::vector<double>(v.weight.size()), v.bias};
    kernels::gemm(Transposition::no, Transposition::no, sums.inputs, columns, sums.inputs, sums.xx, v.weight,
                  result.weight);
    for (double& value : result.bias) value *= sums.rows;
    for (std::int64_t i = 0; i < sums.inputs; ++i)
        for (std::int64_t c = 0; c < columns; ++c) {
            result.weight[at(i, columns, c)] +=
                sums.x[static_cast<std::size_t>(i)] * v.bias[static_cast<std::size_t>(c)];
            result.bias[static_cast<std::size_t>(c)] +=
                sums.x[static_cast<std::size_t>(i)] * v.weight[at(i, columns, c)];
        }
    return result;
}

double dot(const Columns& a, const Columns& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.weight.size(); ++i) sum += a.weight[i] * b.weight[i];
    for (std::size_t i = 0; i < a.bias.size(); ++i) sum += a.bias[i] * b.bias[i];
    return sum;
}

Columns columnsOf(const LinearLayer& layer, std::int64_t inputs, std::int64_t outputs, const ColumnRange& range) {
    return {columnsOf(layer.weight, inputs, outputs, range), columnsOf(layer.bias, 1, outputs, range)};
}

/// Whether anything is known that the residual stream lacks.
bool hasError(const LayerSums& sums) { return !sums.xe.empty() && sums.ee > 0; }

Columns errorColumns(const LayerSums& sums, const ColumnRange& range) {
    return {columnsOf(sums.xe, sums.inputs, sums.outputs, range), columnsOf(sums.e, 1, sums.outputs, range)};
}

/// Right-hand side of the target y + share·e.
Columns targetColumns(const LayerSums& sums, double share, const ColumnRange& range) {
    Columns result{columnsOf(sums.xy, sums.inputs, sums.outputs, range), columnsOf(sums.y, 1, sums.outputs, range)};
    if (share == 0 || !hasError(sums)) return result;
    const Columns error = errorColumns(sums, range);
    for (std::size_t i = 0; i < error.weight.size(); ++i) result.weight[i] += share * error.weight[i];
    for (std::size_t c = 0; c < error.bias.size(); ++c) result.bias[c] += share * error.bias[c];
    return result;
}

double targetSquared(const LayerSums& sums, double share) {
    return sums.yy + 2 * share * sums.ye + share * share * sums.ee;
}

/// XᵀX, centred when the bias is fitted: a free bias takes the means out of the problem.
std::vector<double> gram(const LayerSums& sums, BiasFit bias) {
    std::vector<double> result = sums.xx;
    if (bias == BiasFit::kept || sums.rows == 0) return result;
    for (std::int64_t i = 0; i < sums.inputs; ++i)
        for (std::int64_t j = 0; j < sums.inputs; ++j)
            result[at(i, sums.inputs, j)] -=
                sums.x[static_cast<std::size_t>(i)] * sums.x[static_cast<std::size_t>(j)] / sums.rows;
    clearRounding(result, sums.xx, static_cast<std::size_t>(sums.inputs));
    return result;
}

void addRidge(std::vector<double>& matrix, std::int64_t n, double ridge) {
    double trace = 0;
    for (std::int64_t i = 0; i < n; ++i) trace += matrix[at(i, n, i)];
    // Inputs that are zero on every row leave a zero diagonal: the last term keeps the matrix positive definite.
    const double mean = n == 0 ? 0 : trace / static_cast<double>(n);
    const double added = mean * std::max(ridge, 1e-9) + (mean > 0 ? 0 : 1);
    for (std::int64_t i = 0; i < n; ++i) matrix[at(i, n, i)] += added;
}

/// What refits of one set of rows share whatever the ridge.
struct RidgeProblem {
    RidgeProblem(const LayerSums& rows, const LinearLayer& startingPoint, BiasFit biasFit)
        : sums(rows), start(startingPoint), bias(biasFit), matrix(gram(rows, biasFit)), used(startingPoint.weight.size()) {
        kernels::gemm(Transposition::no, Transposition::no, sums.inputs, sums.outputs, sums.inputs, matrix, start.weight,
                      used);
    }

    const LayerSums& sums;
    const LinearLayer& start;
    BiasFit bias;
    std::vector<double> matrix;  ///< A
    std::vector<double> used;    ///< A·W₀
};

/// Refits of one set of rows at one ridge: at one share, or for every share at once, base + share · slope.
class RidgeSolution {
  public:
    RidgeSolution(const RidgeProblem& problem, double ridge) : RidgeSolution(problem, problem.matrix, ridge) {}
    /// `matrix` is the problem's: taken from it when there is one solution only, as matrices are large.
    RidgeSolution(const RidgeProblem& problem, std::vector<double> matrix, double ridge) : problem_(problem), factor_(std::move(matrix)) {
        addRidge(factor_, problem.sums.inputs, ridge);
        kernels::cholesky(factor_, problem.sums.inputs);
    }

    /// The slope is empty when the stream's error is not known.
    struct Line {
        Columns base, slope;
    };
    Line line(const ColumnRange& range) const {
        Line line{columns(range, 0), {}};
        if (hasError(problem_.sums)) line.slope = solved(errorColumns(problem_.sums, range), nullptr, range);
        return line;
    }
    /// At one share.
    Columns columns(const ColumnRange& range, double share) const {
        const Columns start = columnsOf(problem_.start, problem_.sums.inputs, problem_.sums.outputs, range);
        return solved(targetColumns(problem_.sums, share, range), &start, range);
    }

  private:
    /// From a right-hand side to weights and biases. `start` (null: zero) is taken out first, as the ridge draws towards it:
    /// (A + λ)·Z = XᵀT − A·W₀.
    Columns solved(Columns target, const Columns* start, const ColumnRange& range) const {
        const LayerSums& sums = problem_.sums;
        const std::int64_t count = range.count(), n = sums.inputs;
        const bool fitted = problem_.bias == BiasFit::fitted;
        const std::vector<double> used = start != nullptr ? columnsOf(problem_.used, n, sums.outputs, range) : std::vector<double>();
        std::vector<double> means(static_cast<std::size_t>(count));
        for (std::size_t c = 0; c < means.size(); ++c)
            means[c] = fitted ? target.bias[c] / sums.rows : start != nullptr ? start->bias[c] : 0.0;
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t c = 0; c < count; ++c)
                target.weight[at(i, count, c)] -= sums.x[static_cast<std::size_t>(i)] * means[static_cast<std::size_t>(c)];
        for (std::size_t i = 0; i < used.size(); ++i) target.weight[i] -= used[i];
        for (const Transposition side : {Transposition::no, Transposition::yes})
            kernels::solveTriangular(Triangle::lower, side, factor_, n, target.weight, count);
        if (start != nullptr)
            for (std::size_t i = 0; i < used.size(); ++i) target.weight[i] += start->weight[i];
        if (fitted)
            fitBias(target);
        else
            target.bias = start != nullptr ? start->bias : std::vector<double>(means.size());
        return target;
    }
    /// From the sum of the targets to the bias: the mean that the weights leave over.
    void fitBias(Columns& columns) const {
        const auto count = static_cast<std::int64_t>(columns.bias.size());
        const LayerSums& sums = problem_.sums;
        for (std::int64_t i = 0; i < sums.inputs; ++i)
            for (std::int64_t c = 0; c < count; ++c)
                columns.bias[static_cast<std::size_t>(c)] -=
                    sums.x[static_cast<std::size_t>(i)] * columns.weight[at(i, count, c)];
        for (double& bias : columns.bias) bias /= sums.rows;
    }

    const RidgeProblem& problem_;
    std::vector<double> factor_;
};

std::size_t columnBlocks(std::int64_t columns, std::int64_t stride = 1) {
    return static_cast<std::size_t>((columns + stride * kColumnBlock - 1) / (stride * kColumnBlock));
}

/// Calls work(range, block) for blocks of every `stride`-th column, several at once.
template <class Work>
void forColumnBlocks(std::int64_t columns, std::int64_t stride, Work work) {
    parallelRanges(columns, stride * kColumnBlock, [&](std::int64_t begin, std::int64_t end) {
        work(ColumnRange{begin, end, stride}, static_cast<std::size_t>(begin / (stride * kColumnBlock)));
    });
}

/// The best share at the solution's ridge by every `stride`-th output. The error is that of these outputs, but for a constant.
RefitChoice chooseShare(const RidgeProblem& problem, const RidgeSolution& solution, const LayerSums& held, double ridge,
                        std::int64_t stride) {
    // Error as a function of the share s: constant + s · linear + s² · square.
    std::vector<std::array<double, 3>> parts(columnBlocks(held.outputs, stride));
    forColumnBlocks(held.outputs, stride, [&](const ColumnRange& range, std::size_t block) {
        const RidgeSolution::Line line = solution.line(range);
        const Columns target = targetColumns(held, 1, range), base = times(held, line.base);
        parts[block][0] = dot(line.base, base) - 2 * dot(line.base, target);
        if (line.slope.weight.empty()) return;
        parts[block][1] = 2 * dot(line.slope, base) - 2 * dot(line.slope, target);
        parts[block][2] = dot(line.slope, times(held, line.slope));
    });
    std::array<double, 3> sum{targetSquared(held, 1), 0, 0};
    for (const auto& part : parts)
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
    const double share = sum[2] > 0 ? std::clamp(-sum[1] / (2 * sum[2]), 0.0, 1.0) : 0.0;
    const double error = sum[0] + share * sum[1] + share * share * sum[2];
    return {ridge, share, problem.bias, held.yy > 0 ? error / held.yy : 0.0};
}

RefitChoice chooseShare(const RidgeProblem& problem, const LayerSums& held, double ridge, std::int64_t stride) {
    return chooseShare(problem, RidgeSolution(problem, ridge), held, ridge, stride);
}

LinearLayer layerAt(const RidgeSolution& solution, const LayerSums& sums, double share) {
    LinearLayer result{std::vector<double>(area(sums.inputs, sums.outputs)), std::vector<double>(static_cast<std::size_t>(sums.outputs))};
    forColumnBlocks(sums.outputs, 1, [&](const ColumnRange& range, std::size_t) {
        const Columns columns = solution.columns(range, share);
        const std::int64_t count = range.count();
        for (std::int64_t i = 0; i < sums.inputs; ++i)
            std::copy_n(columns.weight.begin() + i * count, count, result.weight.begin() + i * sums.outputs + range.begin);
        std::copy(columns.bias.begin(), columns.bias.end(), result.bias.begin() + range.begin);
    });
    return result;
}

}  // namespace

RefitChoice chooseShare(const Evidence& evidence, const LinearLayer& start, double ridge, BiasFit bias) {
    RidgeProblem problem(evidence.fit, start, bias);
    return chooseShare(problem, RidgeSolution(problem, std::move(problem.matrix), ridge), evidence.held, ridge, 1);
}

RidgeFit fitAtRidge(const Evidence& evidence, const LinearLayer& start, double ridge, BiasFit bias) {
    RidgeProblem problem(evidence.fit, start, bias);
    const RidgeSolution solution(problem, std::move(problem.matrix), ridge);
    const RefitChoice choice = chooseShare(problem, solution, evidence.held, ridge, 1);
    return {choice, layerAt(solution, evidence.fit, choice.share)};
}

double squaredError(const LayerSums& sums, const LinearLayer& layer, double share) {
    std::vector<double> parts(columnBlocks(sums.outputs));
    forColumnBlocks(sums.outputs, 1, [&](const ColumnRange& range, std::size_t block) {
        const Columns columns = columnsOf(layer, sums.inputs, sums.outputs, range);
        parts[block] = dot(columns, times(sums, columns)) - 2 * dot(columns, targetColumns(sums, share, range));
    });
    double error = targetSquared(sums, share);
    for (const double part : parts) error += part;
    return error;
}

RefitChoice chooseRefit(const Evidence& evidence, const LinearLayer& start, BiasFit bias) {
    static constexpr std::array<double, 9> kRidges = {1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10};
    // Outputs have their rows in common: about a hundred of them know which ridge is best.
    constexpr std::int64_t kEnoughOutputs = 96;
    const std::int64_t stride = std::max<std::int64_t>(1, evidence.fit.outputs / kEnoughOutputs);
    const RidgeProblem problem(evidence.fit, start, bias);
    const RefitChoice best =
        leastHeldError(kRidges, [&](double ridge) { return chooseShare(problem, evidence.held, ridge, stride); });
    const auto byAll = [&](const RidgeProblem& chosen, const RefitChoice& found) {
        return stride == 1 ? found : chooseShare(chosen, evidence.held, found.ridge, 1);
    };
    if (bias == BiasFit::kept) return byAll(problem, best);
    const RidgeProblem keepingBias(evidence.fit, start, BiasFit::kept);
    const RefitChoice withoutBias = chooseShare(keepingBias, evidence.held, best.ridge, stride);
    return withoutBias.heldError < best.heldError ? byAll(keepingBias, withoutBias) : byAll(problem, best);
}

LinearLayer refit(const LayerSums& sums, const LinearLayer& start, const RefitChoice& choice) {
    RidgeProblem problem(sums, start, choice.bias);
    return layerAt(RidgeSolution(problem, std::move(problem.matrix), choice.ridge), sums, choice.share);
}

LinearLayer withBias(const LayerSums& sums, std::vector<double> weight, const LinearLayer& start,
                     const RefitChoice& choice) {
    LinearLayer layer{std::move(weight), start.bias};
    if (choice.bias == BiasFit::kept || sums.rows == 0) return layer;
    for (std::int64_t o = 0; o < sums.outputs; ++o) {
        double left = sums.y[static_cast<std::size_t>(o)] + choice.share * sums.e[static_cast<std::size_t>(o)];
        for (std::int64_t i = 0; i < sums.inputs; ++i)
            left -= sums.x[static_cast<std::size_t>(i)] * layer.weight[at(i, sums.outputs, o)];
        layer.bias[static_cast<std::size_t>(o)] = left / sums.rows;
    }
    return layer;
}

std::vector<double> hessian(const LayerSums& sums, const RefitChoice& choice) {
    std::vector<double> result = gram(sums, choice.bias);
    addRidge(result, sums.inputs, choice.ridge);
    return result;
}

}  // namespace tcompress::passes
