#include "passes/quantize/codebook/codebook_entries.h"

#include <algorithm>
#include <utility>

#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

/// Output channels that one task works on.
constexpr std::int64_t kTile = 64;
/// The entries need not be exact before the numbers move again.
constexpr int kSteps = 6;

std::size_t entryCount(const CodebookMatrix& matrix) {
    return matrix.stages.size() * matrix.stages.front().entries.size();
}

/// S of a matrix.
class EntryTerms {
  public:
    explicit EntryTerms(const CodebookMatrix& matrix)
        : matrix_(matrix), channels_(matrix.channels), stageSize_(matrix.stages.front().entries.size()) {}

    /// Sᵀ: for each entry the sum of term(scale, input, channel) over the weights that read it.
    template <class Term>
    std::vector<double> gathered(const Term& term) const {
        // Channels with books of their own share no entry; else every task has its own sums.
        const std::int64_t tasks = matrix_.books == 1 ? (channels_ + kTile - 1) / kTile : 1;
        std::vector<std::vector<double>> parts(static_cast<std::size_t>(tasks),
                                               std::vector<double>(entryCount(matrix_), 0.0));
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            std::vector<double>& sums = parts[static_cast<std::size_t>(matrix_.books == 1 ? first / kTile : 0)];
            forEachTerm(first, last, [&](std::size_t entry, float scale, std::int64_t input, std::int64_t channel) {
                sums[entry] += term(scale, input, channel);
            });
        });
        for (std::size_t part = 1; part < parts.size(); ++part)
            for (std::size_t i = 0; i < parts.front().size(); ++i) parts.front()[i] += parts[part][i];
        return std::move(parts.front());
    }

    /// Sᵀ times a matrix [inputs, channels].
    std::vector<double> gathered(const std::vector<float>& weights) const {
        return gathered([&](float scale, std::int64_t input, std::int64_t channel) {
            return static_cast<double>(scale) * weights[place(input, channel)];
        });
    }

    /// S·θ, [inputs, channels].
    std::vector<float> spread(std::span<const double> theta) const {
        std::vector<float> weights(static_cast<std::size_t>(matrix_.inputs * channels_), 0.0F);
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            forEachTerm(first, last, [&](std::size_t entry, float scale, std::int64_t input, std::int64_t channel) {
                weights[place(input, channel)] += scale * static_cast<float>(theta[entry]);
            });
        });
        return weights;
    }

  private:
    std::size_t place(std::int64_t input, std::int64_t channel) const {
        return static_cast<std::size_t>(input * channels_ + channel);
    }

    float scaleAt(std::int64_t channel, std::int64_t input) const {
        if (matrix_.block == 0) return 1.0F;
        return matrix_.scales[static_cast<std::size_t>(channel * matrix_.blocks() + input / matrix_.block)];
    }

    /// Calls visit(place in θ, scale, input, channel) for all weights of channels [first, last) and all stages.
    template <class Visit>
    void forEachTerm(std::int64_t first, std::int64_t last, const Visit& visit) const {
        const std::int64_t d = matrix_.dimension, pieces = matrix_.pieces();
        for (std::size_t stage = 0; stage < matrix_.stages.size(); ++stage) {
            const std::uint16_t* codes = matrix_.stages[stage].codes.data();
            for (std::int64_t piece = 0; piece < pieces; ++piece)
                for (std::int64_t c = first; c < last; ++c) {
                    const std::int64_t book = matrix_.books == 1 ? 0 : c;
                    const std::size_t entry = stage * stageSize_ +
                        static_cast<std::size_t>((book * matrix_.size + codes[c * pieces + piece]) * d);
                    const float scale = scaleAt(c, piece * d);
                    for (std::int64_t k = 0; k < d; ++k)
                        visit(entry + static_cast<std::size_t>(k), scale, piece * d + k, c);
                }
        }
    }

    const CodebookMatrix& matrix_;
    std::int64_t channels_;
    std::size_t stageSize_;  ///< values of the entries of one stage
};

/// Conjugate gradients. `systemOf`: of the equations that have nothing in common with those of other systems.
template <class SystemOf>
std::vector<double> conjugateGradients(const EntryEquations& equations, std::size_t systems, const SystemOf& systemOf,
                                       const std::function<std::vector<double>(std::span<const double>)>& curvature) {
    const std::size_t count = equations.slopes.size();
    std::vector<double> left = equations.slopes, change(count, 0.0), direction(count, 0.0), rho(systems, 0.0);
    for (int step = 0; step < kSteps; ++step) {
        std::vector<double> conditioned(count), next(systems, 0.0), lengths(systems, 0.0);
        for (std::size_t i = 0; i < count; ++i) {
            conditioned[i] = equations.diagonal[i] > 0 ? left[i] / equations.diagonal[i] : 0.0;
            next[systemOf(i)] += left[i] * conditioned[i];
        }
        for (std::size_t i = 0; i < count; ++i) {
            const double before = rho[systemOf(i)];
            direction[i] = conditioned[i] + (before > 0 ? next[systemOf(i)] / before : 0.0) * direction[i];
        }
        rho = std::move(next);
        const std::vector<double> seen = curvature(direction);
        for (std::size_t i = 0; i < count; ++i) lengths[systemOf(i)] += direction[i] * seen[i];
        for (std::size_t system = 0; system < systems; ++system)
            lengths[system] = lengths[system] > 0 ? rho[system] / lengths[system] : 0.0;
        for (std::size_t i = 0; i < count; ++i) {
            change[i] += lengths[systemOf(i)] * direction[i];
            left[i] -= lengths[systemOf(i)] * seen[i];
        }
    }
    return change;
}

}  // namespace

EntryEquations::EntryEquations(const CodebookMatrix& matrix, const OutputGradient& gradient) {
    const EntryTerms terms(matrix);
    slopes = terms.gathered(gradient.values());
    diagonal = terms.gathered([&](float scale, std::int64_t input, std::int64_t) {
        return static_cast<double>(scale) * scale * gradient.h(input, input);
    });
}

void EntryEquations::add(const EntryEquations& other, double weight) {
    slopes.resize(other.slopes.size(), 0.0);
    diagonal.resize(other.diagonal.size(), 0.0);
    for (std::size_t i = 0; i < slopes.size(); ++i) {
        slopes[i] += weight * other.slopes[i];
        diagonal[i] += weight * other.diagonal[i];
    }
}

std::vector<double> entryCurvature(const CodebookMatrix& matrix, const OutputGradient& gradient,
                                   std::span<const double> direction) {
    const EntryTerms terms(matrix);
    const std::vector<float> moved = terms.spread(direction);
    std::vector<float> seen(moved.size());
    gradient.product(0, matrix.inputs, moved.data(), seen.data());
    return terms.gathered(seen);
}

std::vector<double> entryChange(const EntryEquations& equations,
                                const std::function<std::vector<double>(std::span<const double>)>& curvature) {
    return conjugateGradients(equations, 1, [](std::size_t) { return std::size_t{0}; }, curvature);
}

std::vector<double> entryChange(const CodebookMatrix& matrix, const OutputGradient& gradient) {
    const EntryEquations equations(matrix, gradient);
    const auto curvature = [&](std::span<const double> direction) { return entryCurvature(matrix, gradient, direction); };
    if (matrix.books == 1) return entryChange(equations, curvature);
    const auto book = static_cast<std::size_t>(matrix.size * matrix.dimension);
    return conjugateGradients(equations, static_cast<std::size_t>(matrix.books),
                              [book](std::size_t entry) { return entry / book; }, curvature);
}

void changeEntries(CodebookMatrix& matrix, std::span<const double> change) {
    auto next = change.begin();
    for (CodebookStage& stage : matrix.stages)
        for (float& entry : stage.entries) entry = roundedToHalf(static_cast<float>(entry + *next++));
}

}  // namespace tcompress::passes
