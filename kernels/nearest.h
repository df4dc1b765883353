#pragma once
// The nearest of a set of centroids for each of many points: the inner loop of k-means and of vector
// quantization.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

/// points [count, dimension], centroids [centroidCount, dimension], row-major. nearest[i]: index of the
/// centroid with the smallest squared distance to point i, the lowest of equals by the computed distances;
/// squaredDistances (may be empty): that distance, never negative. Parallel over points; the result does not
/// depend on the number of threads. centroidCount from 1 to 65536.
struct NearestCentroids {
    std::span<const float> points;
    std::int64_t count = 0;
    std::int64_t dimension = 0;
    std::span<const float> centroids;
    std::int64_t centroidCount = 0;
    std::span<std::uint16_t> nearest;
    std::span<float> squaredDistances;
};
void nearestCentroids(const NearestCentroids& params);
/// The plain loops: the judge of the other.
void nearestCentroidsReference(const NearestCentroids& params);

}  // namespace tcompress::kernels
