#include "passes/quantize/codebook/codebook.h"

#include <algorithm>
#include <numeric>

#include "kernels/nearest.h"
#include "lib/support/check.h"
#include "lib/tensor/tensor.h"

namespace tcompress::passes {
namespace {

/// Positions drawn with probabilities proportional to the weights, by systematic sampling: one random offset,
/// then equal steps through the sum, so that every piece appears as often as its weight says, up to one.
std::vector<std::size_t> drawn(std::span<const double> weights, std::int64_t count, Random& random) {
    const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
    TCOMPRESS_CHECK(all > 0, "a codebook of pieces that all weigh nothing");
    const double step = all / static_cast<double>(count);
    double next = step * random.uniform(), sum = 0;
    std::vector<std::size_t> result;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        sum += weights[i];
        for (; next < sum && static_cast<std::int64_t>(result.size()) < count; next += step)
            result.push_back(i);
    }
    while (static_cast<std::int64_t>(result.size()) < count) result.push_back(weights.size() - 1);
    return result;
}

class Lloyd {
  public:
    Lloyd(std::vector<float> points, const CodebookTraining& training, Random& random)
        : points_(std::move(points)),
          training_(training),
          count_(static_cast<std::int64_t>(points_.size()) / training.dimension),
          nearest_(static_cast<std::size_t>(count_)),
          distances_(static_cast<std::size_t>(count_)) {
        const std::vector<double> alike(static_cast<std::size_t>(count_), 1.0);
        for (const std::size_t at : drawn(alike, training.size, random)) appendPoint(at);
    }

    std::vector<float> run() {
        for (std::int64_t i = 0; i < training_.iterations; ++i) {
            kernels::nearestCentroids(
                {points_, count_, training_.dimension, centroids_, training_.size, nearest_, distances_});
            move();
        }
        return centroids_;
    }

  private:
    void appendPoint(std::size_t at) {
        const float* point = points_.data() + static_cast<std::int64_t>(at) * training_.dimension;
        centroids_.insert(centroids_.end(), point, point + training_.dimension);
    }

    /// Centroids go to the mean of their points; those without any go to the points that are farthest off.
    void move() {
        const std::int64_t d = training_.dimension;
        std::vector<double> sums(centroids_.size(), 0.0);
        std::vector<std::int64_t> members(static_cast<std::size_t>(training_.size), 0);
        for (std::int64_t i = 0; i < count_; ++i) {
            const std::int64_t at = nearest_[static_cast<std::size_t>(i)];
            ++members[static_cast<std::size_t>(at)];
            for (std::int64_t k = 0; k < d; ++k)
                sums[static_cast<std::size_t>(at * d + k)] += points_[static_cast<std::size_t>(i * d + k)];
        }
        std::vector<std::size_t> farthest;
        for (std::int64_t c = 0; c < training_.size; ++c) {
            const auto size = members[static_cast<std::size_t>(c)];
            if (size == 0 && farthest.empty()) farthest = byDistance();
            for (std::int64_t k = 0; k < d; ++k)
                centroids_[static_cast<std::size_t>(c * d + k)] =
                    size > 0 ? static_cast<float>(sums[static_cast<std::size_t>(c * d + k)] /
                                                  static_cast<double>(size))
                             : points_[farthest.back() * static_cast<std::size_t>(d) +
                                       static_cast<std::size_t>(k)];
            if (size == 0 && farthest.size() > 1) farthest.pop_back();
        }
    }

    /// Points in order of their distance, the farthest last.
    std::vector<std::size_t> byDistance() const {
        std::vector<std::size_t> order(distances_.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return distances_[a] < distances_[b]; });
        return order;
    }

    std::vector<float> points_;
    const CodebookTraining& training_;
    std::int64_t count_;
    std::vector<float> centroids_;
    std::vector<std::uint16_t> nearest_;
    std::vector<float> distances_;
};

}  // namespace

float roundedToHalf(float value) { return toFloat(toHalf(std::clamp(value, -kLargestHalf, kLargestHalf))); }

std::vector<float> drawnPieces(std::span<const float> rows, std::span<const double> rowWeights, std::int64_t rowLength,
                               std::int64_t dimension, std::int64_t count, Random& random) {
    TCOMPRESS_CHECK(rowLength % dimension == 0, "rows are no whole number of pieces");
    TCOMPRESS_CHECK(rowWeights.size() * static_cast<std::size_t>(rowLength) == rows.size(),
                    "rows and their weights do not fit");
    const std::int64_t pieces = rowLength / dimension;
    std::vector<double> weights;
    weights.reserve(rowWeights.size() * static_cast<std::size_t>(pieces));
    for (const double weight : rowWeights)
        weights.insert(weights.end(), static_cast<std::size_t>(pieces), weight);
    std::vector<float> points;
    for (const std::size_t piece : drawn(weights, count, random)) {
        const float* source = rows.data() + static_cast<std::int64_t>(piece) * dimension;
        points.insert(points.end(), source, source + dimension);
    }
    return points;
}

Codebook trainCodebook(std::vector<float> pieces, const CodebookTraining& training, Random random) {
    Codebook codebook{training.dimension, training.size, Lloyd(std::move(pieces), training, random).run()};
    for (float& value : codebook.entries) value = roundedToHalf(value);
    return codebook;
}

Codebook trainCodebook(std::span<const float> rows, std::span<const double> rowWeights,
                       std::int64_t rowLength, const CodebookTraining& training, Random random) {
    std::vector<float> pieces =
        drawnPieces(rows, rowWeights, rowLength, training.dimension, training.mostSamples, random);
    return trainCodebook(std::move(pieces), training, random);
}

CodebookCodes encodeRows(std::span<const float> rows, std::int64_t rowLength, const Codebook& codebook) {
    const std::int64_t pieces = rowLength / codebook.dimension;
    const auto count = static_cast<std::int64_t>(rows.size()) / codebook.dimension;
    CodebookCodes result;
    result.codes.resize(static_cast<std::size_t>(count));
    std::vector<float> distances(static_cast<std::size_t>(count));
    kernels::nearestCentroids(
        {rows, count, codebook.dimension, codebook.entries, codebook.size, result.codes, distances});
    for (std::int64_t i = 0; i < count; i += pieces)
        result.squaredErrors.push_back(
            std::accumulate(distances.begin() + i, distances.begin() + i + pieces, 0.0));
    return result;
}

}  // namespace tcompress::passes
