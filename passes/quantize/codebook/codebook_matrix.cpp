#include "passes/quantize/codebook/codebook_matrix.h"

#include <algorithm>
#include <cmath>

#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "passes/quantize/grid/levels.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kChannelsPerTask = 16;

std::span<const float> row(std::span<const float> values, std::int64_t index, std::int64_t length) {
    return values.subspan(static_cast<std::size_t>(index * length), static_cast<std::size_t>(length));
}

/// The scale of a group on levels from −1 to 1 that has the least weighted squared error.
class ScaleSearch {
  public:
    explicit ScaleSearch(std::span<const float> levels) : levels_(levels) {}

    /// Sets the group's codes too.
    float search(std::span<const float> group, std::span<const float> importance, std::uint16_t* codes) {
        float largest = 0;
        for (const float w : group) largest = std::max(largest, std::fabs(w));
        float best = kSmallestHalfScale;
        double least = HUGE_VAL;
        for (int step = 0; step <= kSteps; ++step) {
            const float share = kTop - (kTop - kBottom) * static_cast<float>(step) / kSteps;
            const float scale = std::max(roundedToHalf(largest * share), kSmallestHalfScale);
            const double error = errorOf(group, importance, scale);
            if (error >= least) continue;
            least = error;
            best = scale;
            std::copy(tried_.begin(), tried_.end(), codes);
        }
        return best;
    }

  private:
    static constexpr int kSteps = 32;
    static constexpr float kTop = 1.05F, kBottom = 0.45F;

    double errorOf(std::span<const float> group, std::span<const float> importance, float scale) {
        scaled_.clear();
        for (const float w : group) scaled_.push_back(w / scale);
        tried_.resize(group.size());
        nearestLevels(scaled_, levels_, tried_.data());
        double sum = 0;
        for (std::size_t i = 0; i < group.size(); ++i) {
            const float error = group[i] - levels_[tried_[i]] * scale;
            sum += static_cast<double>(importance[i]) * error * error;
        }
        return sum;
    }

    std::span<const float> levels_;
    std::vector<float> scaled_;
    std::vector<std::uint16_t> tried_;
};

CodebookMatrix shaped(const WeightMatrix& matrix, std::int64_t dimension, std::int64_t size) {
    TCOMPRESS_CHECK(static_cast<std::int64_t>(matrix.weights.size()) == matrix.channels * matrix.inputs &&
                        static_cast<std::int64_t>(matrix.importance.size()) == matrix.inputs &&
                        matrix.inputs % dimension == 0,
                    "a matrix does not fill its shape");
    CodebookMatrix result;
    result.channels = matrix.channels;
    result.inputs = matrix.inputs;
    result.dimension = dimension;
    result.size = size;
    return result;
}

}  // namespace

std::vector<float> CodebookMatrix::decoded() const {
    std::vector<float> result(static_cast<std::size_t>(channels * inputs), 0.0F);
    for (const CodebookStage& stage : stages)
        for (std::int64_t channel = 0; channel < channels; ++channel)
            for (std::int64_t i = 0; i < inputs; ++i) {
                const std::int64_t code =
                    stage.codes[static_cast<std::size_t>(channel * pieces() + i / dimension)];
                const std::int64_t entry = (books == 1 ? 0 : channel) * size + code;
                result[static_cast<std::size_t>(channel * inputs + i)] +=
                    stage.entries[static_cast<std::size_t>(entry * dimension + i % dimension)];
            }
    if (block == 0) return result;
    for (std::int64_t channel = 0; channel < channels; ++channel)
        for (std::int64_t i = 0; i < inputs; ++i)
            result[static_cast<std::size_t>(channel * inputs + i)] *=
                scales[static_cast<std::size_t>(channel * blocks() + i / block)];
    return result;
}

CodebookMatrix numbered(const Codebook& codebook, std::span<const std::uint16_t> codes,
                        std::int64_t channels) {
    CodebookMatrix result;
    result.channels = channels;
    result.inputs = static_cast<std::int64_t>(codes.size()) / channels * codebook.dimension;
    result.dimension = codebook.dimension;
    result.size = codebook.size;
    result.stages.push_back({codebook.entries, {codes.begin(), codes.end()}});
    return result;
}

CodebookMatrix withLevels(const WeightMatrix& matrix, std::vector<float> levels, std::int64_t block) {
    CodebookMatrix result = shaped(matrix, 1, static_cast<std::int64_t>(levels.size()));
    for (float& level : levels) level = roundedToHalf(level);
    result.block = block;
    result.scales.resize(static_cast<std::size_t>(matrix.channels * result.blocks()));
    CodebookStage& stage = result.stages.emplace_back();
    stage.entries = std::move(levels);
    stage.codes.resize(matrix.weights.size());
    parallelRanges(matrix.channels, kChannelsPerTask, [&](std::int64_t first, std::int64_t last) {
        ScaleSearch search(stage.entries);
        for (std::int64_t channel = first; channel < last; ++channel)
            for (std::int64_t b = 0; b < result.blocks(); ++b) {
                const std::int64_t begin = b * block, length = std::min(block, matrix.inputs - begin);
                const auto place = static_cast<std::size_t>(channel * matrix.inputs + begin);
                result.scales[static_cast<std::size_t>(channel * result.blocks() + b)] = search.search(
                    matrix.weights.subspan(place, static_cast<std::size_t>(length)),
                    std::span<const float>(matrix.importance).subspan(static_cast<std::size_t>(begin)),
                    stage.codes.data() + place);
            }
    });
    return result;
}

CodebookMatrix withBestLevels(const WeightMatrix& matrix, std::int64_t size) {
    CodebookMatrix result = shaped(matrix, 1, size);
    result.books = matrix.channels;
    CodebookStage& stage = result.stages.emplace_back();
    stage.entries.resize(static_cast<std::size_t>(matrix.channels * size));
    stage.codes.resize(matrix.weights.size());
    parallelRanges(matrix.channels, kChannelsPerTask, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t channel = first; channel < last; ++channel) {
            const std::span<const float> weights = row(matrix.weights, channel, matrix.inputs);
            std::vector<float> levels = bestLevels(weights, matrix.importance, size);
            for (float& level : levels) level = roundedToHalf(level);
            std::copy(levels.begin(), levels.end(), stage.entries.begin() + channel * size);
            nearestLevels(weights, levels, stage.codes.data() + channel * matrix.inputs);
        }
    });
    return result;
}

}  // namespace tcompress::passes
