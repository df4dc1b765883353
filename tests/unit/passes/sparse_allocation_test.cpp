// How zeros are spread over layers: the share asked for comes out, and who needs more keeps more.

#include "passes/support/sparse_allocation.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

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
    const std::vector<SparseLayer> layers = {
        {noise(64 * 32, 1), ones64, 1e-7}, {noise(32 * 128, 2), ones32, 3e-7}, {heavy, ones64, 1e-5}};
    for (const auto allocation : {SparseAllocation::uniform, SparseAllocation::saliency, SparseAllocation::outputs,
                                  SparseAllocation::owl, SparseAllocation::er})
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

TEST_CASE("by outputs a matrix keeps more the more its error is worth, within 0.3 of the share") {
    const std::vector<double> weights = noise(64 * 32, 1), ones(64, 1.0);
    const auto at = [&](double first, double second, double third) {
        return allocateSparsity({{weights, ones, first}, {weights, ones, second}, {weights, ones, third}}, SparseAllocation::outputs, 0.5);
    };
    const std::vector<double> found = at(1, 2, 4);
    CHECK(found[0] > found[1] + 0.03);
    CHECK(found[1] > found[2] + 0.03);
    // One threshold: errors of equal worth lie at it. Of normal weights the share below ±t is erf(t / √2).
    const auto threshold = [](double share) {
        double low = 0, high = 5;
        for (int i = 0; i < 50; ++i) (std::erf((low + high) / 2 / std::sqrt(2)) < share ? low : high) = (low + high) / 2;
        return low * low;
    };
    CHECK(threshold(found[0]) / threshold(found[1]) == Approx(2).epsilon(0.15));
    CHECK(threshold(found[1]) / threshold(found[2]) == Approx(2).epsilon(0.15));
    const std::vector<double> far = at(1, 1e6, 1e3);
    CHECK(far[0] == Approx(0.8));
    CHECK(far[1] == Approx(0.2));
    // The same unit whatever it is; what is worth nothing, or more than can be told, is as the least and the most of the others.
    CHECK(at(1e-20, 2e-20, 4e-20)[1] == Approx(found[1]).margin(1e-3));
    CHECK(at(0, 2, 4)[0] == at(0, 2, 4)[1]);
    CHECK(at(2, std::numeric_limits<double>::infinity(), 1)[1] == at(2, 2, 1)[1]);
    CHECK(at(0, 0, 0) == std::vector<double>(3, 0.5));
}
