#include "kernels/nearest.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {
namespace {

/// Centroids that are looked at side by side: one a lane.
constexpr std::int64_t kLanes = 32;
constexpr std::int64_t kPointsPerTask = 1024;

void check(const NearestCentroids& params) {
    TCOMPRESS_CHECK(params.centroidCount >= 1 && params.centroidCount <= 65536, "1 to 65536 centroids");
    TCOMPRESS_CHECK(
        static_cast<std::int64_t>(params.points.size()) == params.count * params.dimension &&
            static_cast<std::int64_t>(params.centroids.size()) == params.centroidCount * params.dimension &&
            static_cast<std::int64_t>(params.nearest.size()) == params.count &&
            (params.squaredDistances.empty() ||
             static_cast<std::int64_t>(params.squaredDistances.size()) == params.count),
        "points, centroids and results do not fit");
}

/// ‖x − c‖² = ‖x‖² − 2·(x·c − ‖c‖²/2): the largest score x·c − ‖c‖²/2 wins. `tiles`: for each kLanes
/// centroids their first coordinates, their second ones …, then ‖c‖²/2.
TCOMPRESS_MULTIVERSION void bestScore(const float* point, std::int64_t dimension, const float* tiles,
                                      std::int64_t tileCount, float* bestScores, std::int32_t* bestTiles) {
    float best[kLanes];
    std::int32_t tileOf[kLanes];
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        best[lane] = -std::numeric_limits<float>::infinity();
        tileOf[lane] = 0;
    }
    const std::int64_t size = (dimension + 1) * kLanes;
    for (std::int64_t tile = 0; tile < tileCount; ++tile) {
        const float* at = tiles + tile * size;
        float score[kLanes];
        for (std::int64_t lane = 0; lane < kLanes; ++lane) score[lane] = -at[dimension * kLanes + lane];
        for (std::int64_t d = 0; d < dimension; ++d) {
            const float x = point[d];
            for (std::int64_t lane = 0; lane < kLanes; ++lane) score[lane] += x * at[d * kLanes + lane];
        }
        const auto index = static_cast<std::int32_t>(tile);
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const bool better = score[lane] > best[lane];
            tileOf[lane] = better ? index : tileOf[lane];
            best[lane] = better ? score[lane] : best[lane];
        }
    }
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        bestScores[lane] = best[lane];
        bestTiles[lane] = tileOf[lane];
    }
}

std::vector<float> tiled(const NearestCentroids& params) {
    const std::int64_t d = params.dimension;
    const std::int64_t tiles = (params.centroidCount + kLanes - 1) / kLanes;
    std::vector<float> result(static_cast<std::size_t>(tiles * (d + 1) * kLanes), 0.0F);
    for (std::int64_t slot = 0; slot < tiles * kLanes; ++slot) {
        float* tile = result.data() + slot / kLanes * (d + 1) * kLanes + slot % kLanes;
        if (slot >= params.centroidCount) {
            tile[d * kLanes] = std::numeric_limits<float>::infinity();  // never wins
            continue;
        }
        const float* centroid = params.centroids.data() + slot * d;
        float half = 0;
        for (std::int64_t i = 0; i < d; ++i) {
            tile[i * kLanes] = centroid[i];
            half += 0.5F * centroid[i] * centroid[i];
        }
        tile[d * kLanes] = half;
    }
    return result;
}

float squaredDistance(const float* a, const float* b, std::int64_t dimension) {
    float sum = 0;
    for (std::int64_t i = 0; i < dimension; ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

}  // namespace

void nearestCentroids(const NearestCentroids& params) {
    check(params);
    const std::vector<float> tiles = tiled(params);
    const std::int64_t tileCount = (params.centroidCount + kLanes - 1) / kLanes;
    parallelRanges(params.count, kPointsPerTask, [&](std::int64_t begin, std::int64_t end) {
        float scores[kLanes];
        std::int32_t tileOf[kLanes];
        for (std::int64_t i = begin; i < end; ++i) {
            const float* point = params.points.data() + i * params.dimension;
            bestScore(point, params.dimension, tiles.data(), tileCount, scores, tileOf);
            std::int64_t best = tileOf[0] * kLanes;
            float bestScore = scores[0];
            for (std::int64_t lane = 1; lane < kLanes; ++lane) {
                const std::int64_t candidate = tileOf[lane] * kLanes + lane;
                if (scores[lane] < bestScore || (scores[lane] == bestScore && candidate > best)) continue;
                best = candidate;
                bestScore = scores[lane];
            }
            params.nearest[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(best);
            if (!params.squaredDistances.empty())
                params.squaredDistances[static_cast<std::size_t>(i)] = squaredDistance(
                    point, params.centroids.data() + best * params.dimension, params.dimension);
        }
    });
}

void nearestCentroidsReference(const NearestCentroids& params) {
    check(params);
    for (std::int64_t i = 0; i < params.count; ++i) {
        const float* point = params.points.data() + i * params.dimension;
        float best = std::numeric_limits<float>::infinity();
        for (std::int64_t c = 0; c < params.centroidCount; ++c) {
            const float distance =
                squaredDistance(point, params.centroids.data() + c * params.dimension, params.dimension);
            if (distance >= best) continue;
            best = distance;
            params.nearest[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(c);
        }
        if (!params.squaredDistances.empty()) params.squaredDistances[static_cast<std::size_t>(i)] = best;
    }
}

}  // namespace tcompress::kernels
