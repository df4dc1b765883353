#include "passes/support/sparse_obs.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <regex>
#include <tuple>

#include "kernels/linalg.h"
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

}  // namespace tcompress::passes
