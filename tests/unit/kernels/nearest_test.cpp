// Nearest centroids against the plain loops.

#include "kernels/nearest.h"

#include <catch2/catch.hpp>
#include <vector>

#include "lib/support/parallel.h"
#include "lib/support/random.h"

using namespace tcompress;

TEST_CASE("Nearest centroids are those of the plain loops") {
    const std::int64_t dimension = GENERATE(1, 3, 4, 8);
    const std::int64_t centroidCount = GENERATE(1, 2, 31, 32, 33, 300);
    const std::int64_t count = GENERATE(0, 1, 1100);
    Random random(static_cast<std::uint64_t>(dimension * 1000 + centroidCount), "nearest");
    std::vector<float> points(static_cast<std::size_t>(count * dimension));
    std::vector<float> centroids(static_cast<std::size_t>(centroidCount * dimension));
    for (float& value : points) value = static_cast<float>(random.normal());
    for (float& value : centroids) value = static_cast<float>(random.normal());
    const auto run = [&](void (*kernel)(const kernels::NearestCentroids&),
                         std::vector<std::uint16_t>& nearest) {
        std::vector<float> distances(static_cast<std::size_t>(count));
        nearest.resize(distances.size());
        kernel({points, count, dimension, centroids, centroidCount, nearest, distances});
        return distances;
    };
    std::vector<std::uint16_t> nearest, expected, serial;
    const auto distances = run(kernels::nearestCentroids, nearest);
    const auto expectedDistances = run(kernels::nearestCentroidsReference, expected);
    // Equally near up to rounding is as good.
    for (std::size_t i = 0; i < distances.size(); ++i)
        REQUIRE(distances[i] <= expectedDistances[i] + 1e-5F * (1.0F + expectedDistances[i]));
    setThreadCount(1);
    run(kernels::nearestCentroids, serial);
    setThreadCount(0);
    CHECK(serial == nearest);
}
