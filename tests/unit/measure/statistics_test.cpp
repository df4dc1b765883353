#include "lib/measure/statistics.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "lib/support/random.h"

namespace tcompress::measure {
namespace {

TEST_CASE("quantile interpolates as numpy does", "[measure]") {
    CHECK(quantile({4, 1, 3, 2}, 0.5) == 2.5);
    CHECK(quantile({4, 1, 3, 2}, 0.95) == Approx(3.85));
    CHECK(quantile({7}, 0.95) == 7);
    CHECK(quantile({1, 2, 3}, 0) == 1);
    CHECK(quantile({1, 2, 3}, 1) == 3);
}

TEST_CASE("Wilson interval against published values", "[measure]") {
    // Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    const auto check = [](std::int64_t successes, std::int64_t trials, double low, double high) {
        const Estimate estimate = wilson(successes, trials);
        CHECK(estimate.value == Approx(static_cast<double>(successes) / static_cast<double>(trials)));
        CHECK(estimate.low == Approx(low).margin(5e-5));
        CHECK(estimate.high == Approx(high).margin(5e-5));
    };
    check(81, 263, 0.2553, 0.3662);
    check(15, 148, 0.0624, 0.1605);
    check(0, 20, 0.0, 0.1611);
    check(1, 29, 0.0061, 0.1718);
    CHECK(wilson(0, 0).samples == 0);
}

TEST_CASE("bootstrap interval of a mean is near the normal one", "[measure]") {
    Random random(3, "test");
    std::vector<double> values(400);
    double sum = 0, squares = 0;
    for (double& value : values) {
        value = 5 + 2 * random.normal();
        sum += value;
        squares += value * value;
    }
    const double mean = sum / 400, error = std::sqrt((squares / 400 - mean * mean) / 400);
    const Estimate estimate = bootstrapMean(values, {});
    CHECK(estimate.value == Approx(mean));
    CHECK(estimate.samples == 400);
    // 2,000 resamples give the ends to about 4 % of the half-width.
    CHECK(estimate.low == Approx(mean - 1.96 * error).margin(0.15 * error));
    CHECK(estimate.high == Approx(mean + 1.96 * error).margin(0.15 * error));
}

TEST_CASE("bootstrap is the same for the same seed, and draws samples together", "[measure]") {
    const std::vector<double> values{1, 5, 2, 8, 3, 9, 4};
    CHECK(bootstrapMean(values, {500, 1}).low == bootstrapMean(values, {500, 1}).low);
    std::vector<double> many;
    for (int i = 0; i < 97; ++i) many.push_back(std::sin(i));
    CHECK(bootstrapMean(many, {500, 1}).low != bootstrapMean(many, {500, 2}).low);
    // A difference of two equal statistics is 0 in every resample only when both saw the same draw.
    std::vector<double> first, second;
    const auto record = [&](std::vector<double>& into) {
        return [&](std::span<const std::int32_t> samples) {
            into.push_back(values[static_cast<std::size_t>(samples[0])]);
            return into.back();
        };
    };
    bootstrap(7, record(first), {50, 1});
    bootstrap(7, record(second), {50, 1});
    CHECK(first == second);
}

TEST_CASE("bootstrap of a ratio weighs samples by their rows", "[measure]") {
    const Estimate estimate =
        bootstrapRatio(std::vector<double>{2, 0, 6}, std::vector<double>{2, 1, 7}, {100, 1});
    CHECK(estimate.value == Approx(0.8));
    CHECK(estimate.low >= 0);
    CHECK(estimate.high <= 1);
}

TEST_CASE("bootstrap says when a figure is not finite", "[measure]") {
    const std::vector<double> values{1, std::numeric_limits<double>::quiet_NaN()};
    const Estimate estimate = bootstrapMean(values, {});
    CHECK(std::isnan(estimate.value));
    CHECK(std::isnan(estimate.low));
    CHECK(bootstrap(0, nullptr, {}).samples == 0);
}

TEST_CASE("exact McNemar p-values", "[measure]") {
    CHECK(mcnemarPValue(0, 0) == 1);
    CHECK(mcnemarPValue(3, 3) == 1);
    CHECK(mcnemarPValue(0, 5) == Approx(2 * std::pow(0.5, 5)));
    CHECK(mcnemarPValue(5, 0) == Approx(2 * std::pow(0.5, 5)));
    CHECK(mcnemarPValue(2, 10) == Approx(2.0 * (1 + 12 + 66) / 4096));  // 0.0386
    CHECK(mcnemarPValue(4000, 4600) < 1e-9);
    CHECK(mcnemarPValue(4, 5) == 1);
}

}  // namespace
}  // namespace tcompress::measure
