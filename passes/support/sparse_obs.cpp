#include "passes/support/sparse_obs.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <regex>
#include <span>
#include <tuple>

#include "kernels/linalg.h"
#include "kernels/matmul.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::passes {

using kernels::Transposition;

std::optional<SparsePattern> parseSparsePattern(const std::string& text) {
    static const std::regex grouped("([0-9]{1,4}):([0-9]{1,4})"), block("block([0-9]{1,4})x([0-9]{1,4})");
    std::smatch match;
    if (text == "unstructured") return SparsePattern{};
    if (std::regex_match(text, match, grouped)) {
        const SparsePattern pattern{std::stoll(match[1]), std::stoll(match[2]), 1, 1};
        if (pattern.keep > 0 && pattern.keep < pattern.group) return pattern;
    } else if (std::regex_match(text, match, block)) {
        const SparsePattern pattern{0, 0, std::stoll(match[1]), std::stoll(match[2])};
        if (pattern.inputs > 0 && pattern.outputs > 0) return pattern;
    }
    return std::nullopt;
}

std::string patternRefusal(const SparsePattern& pattern, std::int64_t inputs, std::int64_t outputs) {
    if (inputs % pattern.inputStep() == 0 && outputs % pattern.outputs == 0) return {};
    return fmt::format("its {} inputs × {} outputs are no multiple of {} × {}", inputs, outputs,
                       pattern.inputStep(), pattern.outputs);
}

namespace {

std::int64_t rowsOf(const std::vector<double>& matrix, std::int64_t columns) {
    return static_cast<std::int64_t>(matrix.size()) / columns;
}

/// Decides stretches of inputs, one after another, from their scores (row-major rows × outputs): clears the flags
/// of those that go. Whole blocks go, so a stretch takes over what the ones before were short of the share.
class Chooser {
  public:
    Chooser(const SparsePattern& pattern, double sparsity, std::int64_t outputs)
        : pattern_(pattern), sparsity_(sparsity), outputs_(outputs) {}

    /// Outputs [begin, end) compete with each other.
    void choose(const double* scores, std::int64_t rows, std::int64_t begin, std::int64_t end,
                std::vector<char>& stays) {
        if (pattern_.isGrouped())
            chooseGrouped(scores, rows, begin, end, stays);
        else
            chooseBlocks(scores, rows, begin, end, stays);
    }

  private:
    std::size_t at(std::int64_t row, std::int64_t column) const {
        return static_cast<std::size_t>(row * outputs_ + column);
    }

    void chooseGrouped(const double* scores, std::int64_t rows, std::int64_t begin, std::int64_t end,
                       std::vector<char>& stays) const {
        std::vector<std::int64_t> order(static_cast<std::size_t>(pattern_.group));
        for (std::int64_t first = 0; first < rows; first += pattern_.group)
            for (std::int64_t column = begin; column < end; ++column) {
                std::iota(order.begin(), order.end(), first);
                std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
                    return scores[at(a, column)] > scores[at(b, column)];
                });
                for (auto i = order.begin() + pattern_.keep; i != order.end(); ++i) stays[at(*i, column)] = 0;
            }
    }

    void chooseBlocks(const double* scores, std::int64_t rows, std::int64_t begin, std::int64_t end,
                      std::vector<char>& stays) {
        struct Block {
            double score;
            std::int64_t row, column;
        };
        std::vector<Block> blocks;
        for (std::int64_t row = 0; row < rows; row += pattern_.inputs)
            for (std::int64_t column = begin; column < end; column += pattern_.outputs) {
                double sum = 0;
                for (std::int64_t i = row; i < row + pattern_.inputs; ++i)
                    for (std::int64_t o = column; o < column + pattern_.outputs; ++o) sum += scores[at(i, o)];
                blocks.push_back({sum, row, column});
            }
        seen_ += std::ssize(blocks);
        const auto gone = static_cast<std::ptrdiff_t>(std::floor(sparsity_ * static_cast<double>(seen_) + 1e-9)) - gone_;
        gone_ += gone;
        const auto isLess = [](const Block& a, const Block& b) {
            return std::tie(a.score, a.row, a.column) < std::tie(b.score, b.row, b.column);
        };
        std::nth_element(blocks.begin(), blocks.begin() + std::min<std::ptrdiff_t>(gone, std::ssize(blocks) - 1),
                         blocks.end(), isLess);
        for (auto block = blocks.begin(); block != blocks.begin() + gone; ++block)
            for (std::int64_t i = block->row; i < block->row + pattern_.inputs; ++i)
                for (std::int64_t o = block->column; o < block->column + pattern_.outputs; ++o)
                    stays[at(i, o)] = 0;
    }

    const SparsePattern& pattern_;
    double sparsity_;
    std::int64_t outputs_;
    std::ptrdiff_t seen_ = 0, gone_ = 0;  ///< blocks of the stretches so far
};

}  // namespace

SparseMask maskByScore(const std::vector<double>& scores, std::int64_t outputs, const SparsePattern& pattern,
                       double sparsity, std::int64_t outputsAtOnce) {
    std::vector<char> stays(scores.size(), 1);
    Chooser chooser(pattern, sparsity, outputs);
    const std::int64_t step = outputsAtOnce > 0 ? outputsAtOnce : outputs;
    for (std::int64_t begin = 0; begin < outputs; begin += step)
        chooser.choose(scores.data(), rowsOf(scores, outputs), begin, std::min(outputs, begin + step), stays);
    return {stays.begin(), stays.end()};
}

SparseMask zerosOf(const std::vector<double>& weights) {
    SparseMask zeros(weights.size());
    for (std::size_t i = 0; i < zeros.size(); ++i) zeros[i] = weights[i] == 0;
    return zeros;
}

SparseWeights sweep(std::vector<double> hessian, std::vector<double> weights, std::int64_t outputs,
                   const SparsePattern& pattern, double sparsity, const SparseMask& goFirst) {
    const std::int64_t inputs = rowsOf(weights, outputs);
    // H⁻¹ = L·Lᵀ: column i of L says how the inputs behind i make up for an error at i.
    kernels::choleskyOfInverse(hessian, inputs);
    const std::vector<double>& l = hessian;
    const auto factor = [&](std::int64_t row, std::int64_t column) {
        return l[static_cast<std::size_t>(row * inputs + column)];
    };
    constexpr std::int64_t kSweep = 128;
    const std::int64_t step = (kSweep + pattern.inputStep() - 1) / pattern.inputStep() * pattern.inputStep();
    Chooser chooser(pattern, sparsity, outputs);
    std::vector<char> stays(weights.size(), 1);
    for (std::int64_t first = 0; first < inputs; first += step) {
        const std::int64_t count = std::min(step, inputs - first), last = first + count;
        double* const rows = weights.data() + first * outputs;
        std::vector<char> part(static_cast<std::size_t>(count * outputs), 1);
        std::vector<double> scores(part.size());
        const auto score = [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i)
                for (std::int64_t o = 0; o < outputs; ++o) {
                    const double value = rows[i * outputs + o] / factor(first + i, first + i);
                    const bool goes = !goFirst.empty() && goFirst[static_cast<std::size_t>((first + i) * outputs + o)];
                    scores[static_cast<std::size_t>(i * outputs + o)] = goes ? 0.0 : value * value;
                }
        };
        if (!pattern.isGrouped()) {
            score(0, count);
            chooser.choose(scores.data(), count, 0, outputs, part);
        }
        std::vector<double> errors(part.size());
        for (std::int64_t i = 0; i < count; ++i) {
            if (pattern.isGrouped() && i % pattern.group == 0) {
                // N:M decides when it gets there, by weights that know what went before.
                score(i, i + pattern.group);
                std::vector<char> group(static_cast<std::size_t>(pattern.group * outputs), 1);
                chooser.choose(scores.data() + i * outputs, pattern.group, 0, outputs, group);
                std::copy(group.begin(), group.end(), part.begin() + i * outputs);
            }
            const double diagonal = factor(first + i, first + i);
            double* const row = rows + i * outputs;
            for (std::int64_t o = 0; o < outputs; ++o) {
                const auto place = static_cast<std::size_t>(i * outputs + o);
                if (part[place] != 0) continue;
                errors[place] = row[o] / diagonal;
                row[o] = 0;
            }
            for (std::int64_t k = i + 1; k < count; ++k) {
                const double share = factor(first + k, first + i);
                double* const behind = rows + k * outputs;
                const double* const error = errors.data() + i * outputs;
                for (std::int64_t o = 0; o < outputs; ++o) behind[o] -= share * error[o];
            }
        }
        std::copy(part.begin(), part.end(), stays.begin() + first * outputs);
        constexpr std::int64_t kRowsAtOnce = 128;
        parallelRanges(inputs - last, kRowsAtOnce, [&](std::int64_t begin, std::int64_t end) {
            std::vector<double> shares;
            for (std::int64_t k = last + begin; k < last + end; ++k)
                for (std::int64_t i = first; i < last; ++i) shares.push_back(factor(k, i));
            std::vector<double> change(static_cast<std::size_t>((end - begin) * outputs));
            kernels::gemm(Transposition::no, Transposition::no, end - begin, outputs, count, shares, errors,
                          change);
            double* const behind = weights.data() + (last + begin) * outputs;
            for (std::size_t i = 0; i < change.size(); ++i) behind[i] -= change[i];
        });
    }
    return {{stays.begin(), stays.end()}, std::move(weights)};
}

namespace {

/// Conjugate gradients for one output, with the diagonal as preconditioner; the products with H are made for all outputs at
/// once in between.
struct Descent {
    std::span<float> x, residual, direction;
    std::span<const float> product;  ///< direction · H
    const std::vector<float>& inverseDiagonal;
    std::vector<char> stays;
    double energy = 0, first = 0;

    /// `product` is that of W* − x.
    void begin() {
        for (std::size_t i = 0; i < x.size(); ++i) {
            residual[i] = stays[i] != 0 ? product[i] : 0.0F;
            direction[i] = residual[i] * inverseDiagonal[i];
            energy += static_cast<double>(residual[i]) * static_cast<double>(direction[i]);
        }
        first = energy;
    }

    void step() {
        double curvature = 0, next = 0;
        for (std::size_t i = 0; i < x.size(); ++i) curvature += static_cast<double>(direction[i]) * static_cast<double>(product[i]);
        const auto length = static_cast<float>(curvature > 0 ? energy / curvature : 0.0);
        for (std::size_t i = 0; i < x.size(); ++i) {
            x[i] += length * direction[i];
            if (stays[i] == 0) continue;
            residual[i] -= length * product[i];
            next += static_cast<double>(residual[i]) * static_cast<double>(residual[i]) * static_cast<double>(inverseDiagonal[i]);
        }
        const auto kept = static_cast<float>(energy > 0 ? next / energy : 0.0);
        for (std::size_t i = 0; i < x.size(); ++i) direction[i] = residual[i] * inverseDiagonal[i] + kept * direction[i];
        energy = next;
    }
};

}  // namespace

std::vector<double> sparseOptimum(const std::vector<double>& hessian, const std::vector<double>& optimum,
                                  std::int64_t outputs, const SparseMask& mask, const std::vector<double>& start) {
    const std::vector<double>& from = start.empty() ? optimum : start;
    const std::int64_t inputs = rowsOf(optimum, outputs);
    // Outputs × inputs: the symmetric H is the packed operand of all products.
    const std::vector<float> narrow(hessian.begin(), hessian.end());
    const kernels::PackedWeightsPtr packed = kernels::packWeights(narrow.data(), inputs, inputs);
    std::vector<float> x(optimum.size()), residual(optimum.size()), direction(optimum.size()), product(optimum.size());
    std::vector<float> inverse(static_cast<std::size_t>(inputs));
    for (std::int64_t i = 0; i < inputs; ++i)
        inverse[static_cast<std::size_t>(i)] = static_cast<float>(1 / hessian[static_cast<std::size_t>(i * inputs + i)]);
    const auto multiply = [&] {
        kernels::PackedMatmul call;
        call.a = direction.data();
        call.aStride = call.cStride = inputs;
        call.m = outputs;
        call.weights = packed.get();
        call.c = product.data();
        kernels::matmul(call);
    };
    const auto rowOf = [&](std::vector<float>& values, std::int64_t o) {
        return std::span(values).subspan(static_cast<std::size_t>(o * inputs), static_cast<std::size_t>(inputs));
    };
    std::vector<Descent> descents;
    for (std::int64_t o = 0; o < outputs; ++o)
        descents.push_back({rowOf(x, o), rowOf(residual, o), rowOf(direction, o), rowOf(product, o), inverse,
                            std::vector<char>(static_cast<std::size_t>(inputs))});
    constexpr std::int64_t kOutputsAtOnce = 16;
    const auto each = [&](const std::function<void(std::int64_t, Descent&)>& body) {
        parallelRanges(outputs, kOutputsAtOnce, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t o = begin; o < end; ++o) body(o, descents[static_cast<std::size_t>(o)]);
        });
    };
    each([&](std::int64_t o, Descent& descent) {
        for (std::int64_t i = 0; i < inputs; ++i) {
            const auto place = static_cast<std::size_t>(i * outputs + o), at = static_cast<std::size_t>(i);
            descent.stays[at] = mask[place] ? 1 : 0;
            descent.x[at] = mask[place] ? static_cast<float>(from[place]) : 0.0F;
            descent.direction[at] = static_cast<float>(optimum[place]) - descent.x[at];
        }
    });
    multiply();
    each([](std::int64_t, Descent& descent) { descent.begin(); });
    constexpr int kIterations = 40;
    // Of the energy: the gradient's square. What was swept is near already.
    const double tolerance = start.empty() ? 1e-8 : 1e-4;
    const auto isBusy = [&](const Descent& descent) { return descent.energy > tolerance * descent.first; };
    for (int i = 0; i < kIterations && std::any_of(descents.begin(), descents.end(), isBusy); ++i) {
        multiply();
        each([](std::int64_t, Descent& descent) { descent.step(); });
    }
    std::vector<double> result(optimum.size());
    each([&](std::int64_t o, const Descent& descent) {
        for (std::int64_t i = 0; i < inputs; ++i)
            result[static_cast<std::size_t>(i * outputs + o)] = static_cast<double>(descent.x[static_cast<std::size_t>(i)]);
    });
    return result;
}

}  // namespace tcompress::passes
