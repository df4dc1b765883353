#include "passes/support/refit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "kernels/gram.h"
#include "kernels/linalg.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

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

/// Columns [begin, end) of a matrix, dense.
std::vector<double> columnsOf(const std::vector<double>& matrix, std::int64_t rows, std::int64_t columns,
                              std::int64_t begin, std::int64_t end) {
    std::vector<double> result;
    result.reserve(area(rows, end - begin));
    for (std::int64_t row = 0; row < rows; ++row)
        result.insert(result.end(), matrix.begin() + row * columns + begin,
                      matrix.begin() + row * columns + end);
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
      xe(area(inputs, outputs)),
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
    kernels::accumulateCross(xRows, eRows, count, inputs, outputs, xe);
    ee += addRows(eRows, eRows, e);
    ye += std::inner_product(yRows.begin(), yRows.end(), eRows.begin(), 0.0);
}

LayerSums& LayerSums::operator+=(const LayerSums& other) {
    rows += other.rows;
    addTo(xx, other.xx);
    addTo(xy, other.xy);
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
    kept.xe = rowsOf(sums.xe, sums.outputs, inputs);
    kept.y = sums.y;
    kept.e = sums.e;
    kept.yy = sums.yy;
    kept.ye = sums.ye;
    kept.ee = sums.ee;
    return kept;
}

Evidence keepInputs(const Evidence& evidence, const std::vector<std::int64_t>& inputs) {
    return {keepInputs(evidence.fit, inputs), keepInputs(evidence.held, inputs)};
}

LinearLayer keepInputs(const LinearLayer& layer, std::int64_t outputs,
                       const std::vector<std::int64_t>& inputs) {
    return {rowsOf(layer.weight, outputs, inputs), layer.bias};
}

namespace {

constexpr std::int64_t kColumnBlock = 96;

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

Columns columnsOf(const LinearLayer& layer, std::int64_t inputs, std::int64_t outputs, std::int64_t begin,
                  std::int64_t end) {
    return {columnsOf(layer.weight, inputs, outputs, begin, end),
            {layer.bias.begin() + begin, layer.bias.begin() + end}};
}

/// Right-hand side of the target y + share·e.
Columns targetColumns(const LayerSums& sums, double share, std::int64_t begin, std::int64_t end) {
    Columns result{columnsOf(sums.xy, sums.inputs, sums.outputs, begin, end),
                   {sums.y.begin() + begin, sums.y.begin() + end}};
    const std::vector<double> error = columnsOf(sums.xe, sums.inputs, sums.outputs, begin, end);
    for (std::size_t i = 0; i < error.size(); ++i) result.weight[i] += share * error[i];
    for (std::size_t c = 0; c < result.bias.size(); ++c)
        result.bias[c] += share * sums.e[static_cast<std::size_t>(begin) + c];
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

/// Refits of one set of rows at one ridge, for every share at once: the solution is base + share · slope.
class RidgeSolution {
  public:
    RidgeSolution(const LayerSums& sums, const LinearLayer& start, double ridge, BiasFit bias)
        : sums_(sums), start_(start), bias_(bias), gram_(gram(sums, bias)), factor_(gram_) {
        addRidge(factor_, sums.inputs, ridge);
        kernels::cholesky(factor_, sums.inputs);
    }

    struct Line {
        Columns base, slope;
    };
    Line columns(std::int64_t begin, std::int64_t end) const {
        const std::int64_t count = end - begin, n = sums_.inputs;
        Columns start = columnsOf(start_, n, sums_.outputs, begin, end);
        Columns dense = targetColumns(sums_, 0, begin, end);
        Columns error{columnsOf(sums_.xe, n, sums_.outputs, begin, end),
                      {sums_.e.begin() + begin, sums_.e.begin() + end}};
        // What the start leaves over, W₀ taken out: (A + λ)·Z = XᵀT − A·W₀.
        std::vector<double> used(start.weight.size());
        kernels::gemm(Transposition::no, Transposition::no, n, count, n, gram_, start.weight, used);
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t c = 0; c < count; ++c) {
                const double sum = sums_.x[static_cast<std::size_t>(i)];
                const auto column = static_cast<std::size_t>(c);
                const bool fitted = bias_ == BiasFit::fitted;
                dense.weight[at(i, count, c)] -=
                    used[at(i, count, c)] +
                    sum * (fitted ? dense.bias[column] / sums_.rows : start.bias[column]);
                if (fitted) error.weight[at(i, count, c)] -= sum * error.bias[column] / sums_.rows;
            }
        solve(dense.weight, count);
        solve(error.weight, count);
        for (std::size_t i = 0; i < dense.weight.size(); ++i) dense.weight[i] += start.weight[i];
        if (bias_ == BiasFit::kept) {
            dense.bias = start.bias;
            std::fill(error.bias.begin(), error.bias.end(), 0.0);
        } else {
            fitBias(dense);
            fitBias(error);
        }
        return {std::move(dense), std::move(error)};
    }

  private:
    void solve(std::vector<double>& rightHandSide, std::int64_t count) const {
        kernels::solveTriangular(Triangle::lower, Transposition::no, factor_, sums_.inputs, rightHandSide,
                                 count);
        kernels::solveTriangular(Triangle::lower, Transposition::yes, factor_, sums_.inputs, rightHandSide,
                                 count);
    }
    /// From the sum of the targets to the bias: the mean that the weights leave over.
    void fitBias(Columns& columns) const {
        const auto count = static_cast<std::int64_t>(columns.bias.size());
        for (std::int64_t c = 0; c < count; ++c) {
            double& bias = columns.bias[static_cast<std::size_t>(c)];
            for (std::int64_t i = 0; i < sums_.inputs; ++i)
                bias -= sums_.x[static_cast<std::size_t>(i)] * columns.weight[at(i, count, c)];
            bias /= sums_.rows;
        }
    }

    const LayerSums& sums_;
    const LinearLayer& start_;
    BiasFit bias_;
    std::vector<double> gram_, factor_;
};

/// Calls work(begin, end, block) for blocks of columns, several at once.
template <class Work>
void forColumnBlocks(std::int64_t columns, Work work) {
    parallelRanges(columns, kColumnBlock,
                   [&](std::int64_t begin, std::int64_t end) { work(begin, end, begin / kColumnBlock); });
}

std::size_t columnBlocks(std::int64_t columns) {
    return static_cast<std::size_t>((columns + kColumnBlock - 1) / kColumnBlock);
}

}  // namespace

RefitChoice chooseShare(const Evidence& evidence, const LinearLayer& start, double ridge, BiasFit bias) {
    const RidgeSolution solution(evidence.fit, start, ridge, bias);
    const LayerSums& held = evidence.held;
    // Error as a function of the share s: constant + s · linear + s² · square.
    std::vector<std::array<double, 3>> parts(columnBlocks(held.outputs));
    forColumnBlocks(held.outputs, [&](std::int64_t begin, std::int64_t end, std::int64_t block) {
        const RidgeSolution::Line line = solution.columns(begin, end);
        const Columns target = targetColumns(held, 1, begin, end);
        const Columns base = times(held, line.base), slope = times(held, line.slope);
        parts[static_cast<std::size_t>(block)] = {
            dot(line.base, base) - 2 * dot(line.base, target),
            2 * dot(line.slope, base) - 2 * dot(line.slope, target), dot(line.slope, slope)};
    });
    std::array<double, 3> sum{targetSquared(held, 1), 0, 0};
    for (const auto& part : parts)
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
    const double share = sum[2] > 0 ? std::clamp(-sum[1] / (2 * sum[2]), 0.0, 1.0) : 0.0;
    const double error = sum[0] + share * sum[1] + share * share * sum[2];
    return {ridge, share, bias, held.yy > 0 ? error / held.yy : 0.0};
}

double squaredError(const LayerSums& sums, const LinearLayer& layer, double share) {
    std::vector<double> parts(columnBlocks(sums.outputs));
    forColumnBlocks(sums.outputs, [&](std::int64_t begin, std::int64_t end, std::int64_t block) {
        const Columns columns = columnsOf(layer, sums.inputs, sums.outputs, begin, end);
        parts[static_cast<std::size_t>(block)] =
            dot(columns, times(sums, columns)) - 2 * dot(columns, targetColumns(sums, share, begin, end));
    });
    double error = targetSquared(sums, share);
    for (const double part : parts) error += part;
    return error;
}

RefitChoice chooseRefit(const Evidence& evidence, const LinearLayer& start, BiasFit bias) {
    // The error has one minimum over the ridge in practice: downhill from the middle.
    static constexpr std::array<double, 9> kRidges = {1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10};
    std::map<std::size_t, RefitChoice> tried;
    const auto choice = [&](std::size_t index) -> const RefitChoice& {
        const auto [found, isNew] = tried.try_emplace(index);
        if (isNew) found->second = chooseShare(evidence, start, kRidges[index], bias);
        return found->second;
    };
    std::size_t best = kRidges.size() / 2;
    for (bool moved = true; moved;) {
        moved = false;
        for (const std::size_t next : {best + 1, best - 1})
            if (next < kRidges.size() && choice(next).heldError < choice(best).heldError) {
                best = next;
                moved = true;
                break;
            }
    }
    if (bias == BiasFit::kept) return choice(best);
    const RefitChoice withoutBias = chooseShare(evidence, start, kRidges[best], BiasFit::kept);
    return withoutBias.heldError < choice(best).heldError ? withoutBias : choice(best);
}

LinearLayer refit(const LayerSums& sums, const LinearLayer& start, const RefitChoice& choice) {
    const RidgeSolution solution(sums, start, choice.ridge, choice.bias);
    LinearLayer result = start;
    forColumnBlocks(sums.outputs, [&](std::int64_t begin, std::int64_t end, std::int64_t) {
        const RidgeSolution::Line line = solution.columns(begin, end);
        const std::int64_t count = end - begin;
        for (std::int64_t i = 0; i < sums.inputs; ++i)
            for (std::int64_t c = 0; c < count; ++c)
                result.weight[at(i, sums.outputs, begin + c)] =
                    line.base.weight[at(i, count, c)] + choice.share * line.slope.weight[at(i, count, c)];
        for (std::int64_t c = 0; c < count; ++c)
            result.bias[static_cast<std::size_t>(begin + c)] =
                line.base.bias[static_cast<std::size_t>(c)] +
                choice.share * line.slope.bias[static_cast<std::size_t>(c)];
    });
    return result;
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
