#include "passes/quantize/codebook/codebook_entries.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

/// Output channels that one task works on.
constexpr std::int64_t kTile = 64;
/// The entries need not be exact before the numbers move again.
constexpr int kSteps = 6;

class EntryFit {
  public:
    EntryFit(const CodebookMatrix& matrix, OutputGradient& gradient)
        : matrix_(matrix),
          gradient_(gradient),
          channels_(matrix.channels),
          stageSize_(matrix.stages.front().entries.size()),
          systems_(matrix.books == 1 ? 1 : static_cast<std::size_t>(matrix.books)) {
        for (const CodebookStage& stage : matrix.stages)
            theta_.insert(theta_.end(), stage.entries.begin(), stage.entries.end());
    }

    std::vector<double> run() {
        const std::vector<double> diagonal = gathered([&](float scale, std::int64_t input, std::int64_t) {
            return static_cast<double>(scale) * scale * gradient_.h(input, input);
        });
        std::vector<double> direction(theta_.size(), 0.0), rho(systems_, 0.0);
        std::vector<float> moved(gradient_.values().size()), seen(moved.size());
        for (int step = 0; step < kSteps; ++step) {
            std::vector<double> conditioned = slopes(), next(systems_, 0.0);
            for (std::size_t i = 0; i < conditioned.size(); ++i) {
                const double slope = conditioned[i];
                conditioned[i] = diagonal[i] > 0 ? slope / diagonal[i] : 0.0;
                next[systemOf(i)] += slope * conditioned[i];
            }
            for (std::size_t i = 0; i < direction.size(); ++i) {
                const double before = rho[systemOf(i)];
                direction[i] = conditioned[i] + (before > 0 ? next[systemOf(i)] / before : 0.0) * direction[i];
            }
            rho = std::move(next);
            spread(direction, moved);
            gradient_.product(0, matrix_.inputs, moved.data(), seen.data());
            std::vector<double> lengths = perSystem(columnProducts(moved, seen, channels_, 0, matrix_.inputs));
            for (std::size_t i = 0; i < systems_; ++i) lengths[i] = lengths[i] > 0 ? rho[i] / lengths[i] : 0.0;
            for (std::size_t i = 0; i < theta_.size(); ++i) theta_[i] += lengths[systemOf(i)] * direction[i];
            moveGradient(lengths, seen);
        }
        return std::move(theta_);
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

    /// Sᵀ: for each entry the sum of term(scale, input, channel) over the weights that read it.
    template <class Term>
    std::vector<double> gathered(const Term& term) const {
        // Channels with books of their own share no entry; else every task has its own sums.
        const std::int64_t tasks = matrix_.books == 1 ? (channels_ + kTile - 1) / kTile : 1;
        std::vector<std::vector<double>> parts(static_cast<std::size_t>(tasks),
                                               std::vector<double>(theta_.size(), 0.0));
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            std::vector<double>& sums = parts[static_cast<std::size_t>(matrix_.books == 1 ? first / kTile : 0)];
            forEachTerm(first, last, [&](std::size_t entry, float scale, std::int64_t input, std::int64_t channel) {
                sums[entry] += term(scale, input, channel);
            });
        });
        for (std::size_t part = 1; part < parts.size(); ++part)
            for (std::size_t i = 0; i < theta_.size(); ++i) parts.front()[i] += parts[part][i];
        return std::move(parts.front());
    }

    /// SᵀG.
    std::vector<double> slopes() const {
        const std::vector<float>& g = gradient_.values();
        return gathered([&](float scale, std::int64_t input, std::int64_t channel) {
            return static_cast<double>(scale) * g[place(input, channel)];
        });
    }

    /// weights ← S·θ.
    void spread(const std::vector<double>& theta, std::vector<float>& weights) const {
        std::fill(weights.begin(), weights.end(), 0.0F);
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            forEachTerm(first, last, [&](std::size_t entry, float scale, std::int64_t input, std::int64_t channel) {
                weights[place(input, channel)] += scale * static_cast<float>(theta[entry]);
            });
        });
    }

    /// Systems of equations that have nothing in common: one, or one a channel.
    std::size_t systemOf(std::size_t entry) const {
        return systems_ == 1 ? 0 : entry % stageSize_ / static_cast<std::size_t>(matrix_.size * matrix_.dimension);
    }

    std::vector<double> perSystem(std::vector<double> channels) const {
        if (systems_ > 1) return channels;
        return {std::accumulate(channels.begin(), channels.end(), 0.0)};
    }

    void moveGradient(const std::vector<double>& lengths, const std::vector<float>& seen) {
        std::vector<float>& g = gradient_.values();
        parallelRanges(channels_, kTile, [&](std::int64_t first, std::int64_t last) {
            for (std::int64_t i = 0; i < matrix_.inputs; ++i)
                for (std::int64_t c = first; c < last; ++c)
                    g[place(i, c)] -= static_cast<float>(lengths[systems_ == 1 ? 0 : static_cast<std::size_t>(c)]) *
                                      seen[place(i, c)];
        });
    }

    const CodebookMatrix& matrix_;
    OutputGradient& gradient_;
    std::int64_t channels_;
    std::size_t stageSize_;  ///< values of the entries of one stage
    std::size_t systems_;
    std::vector<double> theta_;
};

}  // namespace

std::vector<double> fittedEntries(const CodebookMatrix& matrix, OutputGradient& gradient) {
    return EntryFit(matrix, gradient).run();
}

}  // namespace tcompress::passes
