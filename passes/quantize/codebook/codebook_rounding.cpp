#include "passes/quantize/codebook/codebook_rounding.h"

#include <algorithm>
#include <vector>

#include "kernels/nearest.h"
#include "passes/quantize/grid/levels.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kStride = FeedbackStep::kMostChannels;
/// Times that each entry of a sum is chosen again, given the others.
constexpr int kRepeats = 2;

/// Rounds pieces to sums of entries near them in the norm ‖factor · (…)‖.
class PieceRounder {
  public:
    PieceRounder(CodebookMatrix& matrix, const FeedbackStep& step)
        : matrix_(matrix),
          step_(step),
          d_(matrix.dimension),
          points_(static_cast<std::size_t>(step.count * d_)),
          nearest_(static_cast<std::size_t>(step.count)) {
        for (std::int64_t i = 0; i < step.count; ++i) scales_.push_back(scaleAt(step.first + i));
        for (const CodebookStage& stage : matrix.stages) entries_.push_back(seen(stage.entries));
        for (std::int64_t i = 0; i < step.count; ++i)
            for (std::int64_t k = 0; k < d_; ++k) {
                float sum = 0;
                for (std::int64_t j = k; j < d_; ++j)
                    sum += factor(k, j) * step.values[j * kStride + i] / scales_[static_cast<std::size_t>(i)];
                points_[static_cast<std::size_t>(i * d_ + k)] = sum;
            }
    }

    void choose(PieceStart start) {
        const std::size_t stages = matrix_.stages.size();
        if (start == PieceStart::numbers)
            for (std::size_t stage = 0; stage < stages; ++stage) addEntries(stage, -1);
        else
            for (std::size_t stage = 0; stage < stages; ++stage) chooseStage(stage);
        if (start == PieceStart::numbers || stages > 1)
            for (int repeat = 0; repeat < (stages > 1 ? kRepeats : 1); ++repeat)
                for (std::size_t stage = 0; stage < stages; ++stage) {
                    addEntries(stage, 1);
                    chooseStage(stage);
                }
        storeValues();
    }

  private:
    float factor(std::int64_t row, std::int64_t column) const {
        return step_.factor[static_cast<std::size_t>(row * d_ + column)];
    }

    float scaleAt(std::int64_t channel) const {
        if (matrix_.block == 0) return 1.0F;
        return matrix_.scales[static_cast<std::size_t>(channel * matrix_.blocks() + step_.input / matrix_.block)];
    }

    /// Entries times the factor, which is upper triangular.
    std::vector<float> seen(const std::vector<float>& entries) const {
        std::vector<float> result(entries.size());
        for (std::size_t entry = 0; entry < entries.size(); entry += static_cast<std::size_t>(d_))
            for (std::int64_t k = 0; k < d_; ++k) {
                float sum = 0;
                for (std::int64_t j = k; j < d_; ++j)
                    sum += factor(k, j) * entries[entry + static_cast<std::size_t>(j)];
                result[entry + static_cast<std::size_t>(k)] = sum;
            }
        return result;
    }

    std::uint16_t& code(std::size_t stage, std::int64_t channel) {
        return matrix_.stages[stage]
            .codes[static_cast<std::size_t>((step_.first + channel) * matrix_.pieces() + step_.input / d_)];
    }

    /// What is left to round gains (sign 1) or loses (−1) the entries that a stage has.
    void addEntries(std::size_t stage, float sign) {
        for (std::int64_t i = 0; i < step_.count; ++i) {
            const float* entry = entries_[stage].data() + code(stage, i) * d_;
            for (std::int64_t k = 0; k < d_; ++k) points_[static_cast<std::size_t>(i * d_ + k)] += sign * entry[k];
        }
    }

    void chooseStage(std::size_t stage) {
        kernels::nearestCentroids(
            {points_, step_.count, d_, entries_[stage], matrix_.size, nearest_, {}});
        for (std::int64_t i = 0; i < step_.count; ++i) code(stage, i) = nearest_[static_cast<std::size_t>(i)];
        addEntries(stage, -1);
    }

    void storeValues() {
        for (std::int64_t i = 0; i < step_.count; ++i)
            for (std::int64_t k = 0; k < d_; ++k) {
                float sum = 0;
                for (std::size_t stage = 0; stage < matrix_.stages.size(); ++stage)
                    sum += matrix_.stages[stage].entries[static_cast<std::size_t>(code(stage, i) * d_ + k)];
                step_.values[k * kStride + i] = sum * scales_[static_cast<std::size_t>(i)];
            }
    }

    CodebookMatrix& matrix_;
    const FeedbackStep& step_;
    std::int64_t d_;
    std::vector<float> scales_;                ///< of the step's channels
    std::vector<std::vector<float>> entries_;  ///< of each stage, times the factor
    std::vector<float> points_;                ///< what is left to round, times the factor
    std::vector<std::uint16_t> nearest_;
};

/// Rounds single weights to the nearest level of their channel.
void roundToLevels(CodebookMatrix& matrix, const FeedbackStep& step) {
    CodebookStage& stage = matrix.stages.front();
    const std::span<const float> entries = stage.entries;
    const std::int64_t blocks = matrix.blocks();
    std::vector<float> scales(static_cast<std::size_t>(step.count), 1.0F), scaled;
    for (std::int64_t i = 0; i < step.count; ++i) {
        float& scale = scales[static_cast<std::size_t>(i)];
        if (blocks > 0)
            scale = matrix.scales[static_cast<std::size_t>((step.first + i) * blocks + step.input / matrix.block)];
        scaled.push_back(step.values[i] / scale);
    }
    std::vector<std::uint16_t> codes(scaled.size());
    if (matrix.books == 1) nearestLevels(scaled, entries, codes.data());
    for (std::int64_t i = 0; i < step.count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t channel = step.first + i;
        const auto levels = entries.subspan(static_cast<std::size_t>(matrix.books == 1 ? 0 : channel * matrix.size),
                                            static_cast<std::size_t>(matrix.size));
        if (matrix.books > 1) codes[at] = nearestLevel(scaled[at], levels);
        stage.codes[static_cast<std::size_t>(channel * matrix.inputs + step.input)] = codes[at];
        step.values[i] = levels[codes[at]] * scales[at];
    }
}

}  // namespace

void roundPieces(CodebookMatrix& matrix, const FeedbackStep& step, PieceStart start) {
    if (matrix.dimension == 1 && matrix.stages.size() == 1)
        roundToLevels(matrix, step);
    else
        PieceRounder(matrix, step).choose(start);
}

void chooseByFeedback(CodebookMatrix& matrix, const ErrorFeedback& problem, std::span<const double> secondMoment,
                      double damp) {
    const FeedbackFactor factor =
        feedbackFactor(secondMoment, matrix.inputs, damp, ColumnOrder::activation, matrix.dimension);
    roundWithFeedback(problem, factor, [&](const FeedbackStep& step) { roundPieces(matrix, step, PieceStart::nothing); });
}

}  // namespace tcompress::passes
