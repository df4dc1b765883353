// How zeros are spread over layers: the share asked for comes out, and who needs more keeps more.

#include "passes/support/sparse_allocation.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::noise;

namespace {

double share(const std::vector<SparseLayer>& layers, const std::vector<double>& sparsities) {
    double zeros = 0, all = 0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
        zeros += sparsities[i] * static_cast<double>(layers[i].size());
        all += static_cast<double>(layers[i].size());
    }
    return zeros / all;
}

}  // namespace

TEST_CASE("the share asked for comes out, whatever the allocation") {
    std::vector<double> heavy = noise(64 * 32, 3);
    for (std::size_t i = 0; i < heavy.size(); i += 50) heavy[i] *= 12;
    const std::vector<double> ones64(64, 1.0), ones32(32, 1.0);
    const std::vector<SparseLayer> layers = {{noise(64 * 32, 1), ones64}, {noise(32 * 128, 2), ones32}, {heavy, ones64}};
    for (const auto allocation : {SparseAllocation::uniform, SparseAllocation::saliency, SparseAllocation::owl,
                                  SparseAllocation::er})
        for (const double sparsity : {0.3, 0.5, 0.8}) {
            const std::vector<double> found = allocateSparsity(layers, allocation, sparsity);
            CHECK(share(layers, found) == Approx(sparsity).margin(2e-3));
            for (const double each : found) CHECK((each >= 0 && each <= 0.98));
        }
    const std::vector<double> owl = allocateSparsity(layers, SparseAllocation::owl, 0.5);
    CHECK(owl[2] < owl[0]);
    CHECK(owl[0] - owl[2] == Approx(0.16).margin(1e-6));
}

TEST_CASE("er keeps density in proportion to the sum of a matrix's sides") {
    const std::vector<SparseLayer> layers = {{noise(64 * 64, 1), std::vector<double>(64, 1.0)},
                                             {noise(256 * 256, 2), std::vector<double>(256, 1.0)}};
    const std::vector<double> found = allocateSparsity(layers, SparseAllocation::er, 0.9);
    CHECK((1 - found[0]) / (1 - found[1]) == Approx(4).epsilon(1e-6));
}

TEST_CASE("saliency is one threshold for all layers") {
    // The second layer's output is made by one input: the others' weights are what can go.
    std::vector<double> loud(64, 1e-4);
    loud[5] = 100;
    const std::vector<SparseLayer> layers = {{noise(64 * 32, 1), std::vector<double>(64, 1.0)},
                                             {noise(64 * 32, 2), loud}};
    const std::vector<double> found = allocateSparsity(layers, SparseAllocation::saliency, 0.5);
    CHECK(found[1] > 0.9);
    CHECK(found[0] < 0.1);
}
