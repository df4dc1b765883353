// Division of rows among formats: against every division of a small table, and the smoothing of counts.

#include "passes/quantize/table/row_allocation.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "lib/support/random.h"
#include "passes/quantize/table/row_usage.h"

using namespace tcompress::passes;

namespace {

const std::vector<RowFormat> kFormats{{8, 0, 1e-4}, {4, 0, 1e-2}, {2, 5, 0.1}, {3, 0, 0.2}};

std::vector<double> zipf(int rows) {
    std::vector<double> costs;
    for (int i = 1; i <= rows; ++i) costs.push_back(1.0 / i + 1e-6 * (rows - i));
    return costs;
}

double bytesOf(const std::vector<RowTier>& tiers, const std::vector<RowFormat>& formats, double several) {
    double sum = tiers.size() > 1 ? several : 0;
    for (const RowTier& tier : tiers)
        sum += formats[tier.format].fixedBytes +
               formats[tier.format].bytesPerRow * static_cast<double>(tier.end - tier.begin);
    return sum;
}

double errorOf(const std::vector<RowTier>& tiers, const std::vector<double>& costs,
               const std::vector<RowFormat>& formats) {
    double sum = 0;
    for (const RowTier& tier : tiers)
        for (std::int64_t i = tier.begin; i < tier.end; ++i)
            sum += formats[tier.format].error * costs[static_cast<std::size_t>(i)];
    return sum;
}

/// The smallest error of all divisions into intervals of up to three formats.
double bestOfAll(const std::vector<double>& costs, const std::vector<RowFormat>& formats, double bytes,
                 double several) {
    const auto rows = static_cast<std::int64_t>(costs.size());
    double best = HUGE_VAL;
    for (std::size_t a = 0; a < formats.size(); ++a)
        for (std::size_t b = 0; b < formats.size(); ++b)
            for (std::size_t c = 0; c < formats.size(); ++c)
                for (std::int64_t first = 0; first <= rows; ++first)
                    for (std::int64_t second = first; second <= rows; ++second) {
                        std::vector<RowTier> tiers;
                        for (const RowTier& tier :
                             {RowTier{a, 0, first}, RowTier{b, first, second}, RowTier{c, second, rows}})
                            if (tier.end > tier.begin) tiers.push_back(tier);
                        if (bytesOf(tiers, formats, several) <= bytes)
                            best = std::min(best, errorOf(tiers, costs, formats));
                    }
    return best;
}

}  // namespace

TEST_CASE("Rows are divided as well as trying everything does") {
    const auto costs = zipf(24);
    const double bytes = GENERATE(60.0, 80.0, 100.0, 130.0, 192.0, 1000.0);
    const double several = GENERATE(0.0, 12.0);
    const auto tiers = allocateRows(costs, kFormats, {bytes, several, 3});
    REQUIRE_FALSE(tiers.empty());
    CHECK(tiers.front().begin == 0);
    CHECK(tiers.back().end == 24);
    for (std::size_t i = 1; i < tiers.size(); ++i) CHECK(tiers[i].begin == tiers[i - 1].end);
    CHECK(bytesOf(tiers, kFormats, several) <= bytes);
    const double best = bestOfAll(costs, kFormats, bytes, several);
    INFO(bytes << " bytes: " << errorOf(tiers, costs, kFormats) << ", best " << best);
    // A multiplier finds the corners of the best divisions; between them one row may be left.
    CHECK(errorOf(tiers, costs, kFormats) >= best - 1e-12);
    CHECK(errorOf(tiers, costs, kFormats) <= best * 1.25 + 1e-12);
}

TEST_CASE("A budget below the smallest format has no division; one format is one tier") {
    const auto costs = zipf(10);
    CHECK(allocateRows(costs, kFormats, {20, 0, 3}).empty());
    const auto one = allocateRows(costs, kFormats, {45, 0, 1});
    REQUIRE(one.size() == 1);
    CHECK(one.front().format == 1);
    CHECK(allocateRows(costs, kFormats, {1000, 0, 3}).size() == 1);
}

TEST_CASE("Smoothed usage is a distribution that follows counts and rank") {
    constexpr std::size_t kRows = 1000;
    std::vector<double> counts(kRows, 0.0), heldBack(kRows, 0.0);
    // Frequent tokens come first: row i is used about 1000 / i times, in one of the halves.
    for (std::size_t i = 0; i < kRows; ++i)
        for (std::size_t k = 0; k < 1000 / (i + 1); ++k) ++(k % 2 == i % 2 ? counts : heldBack)[i];
    const auto usage = smoothedUsage(counts, heldBack, std::vector<double>(kRows, 1.0));
    CHECK(std::accumulate(usage.begin(), usage.end(), 0.0) == Approx(1.0));
    CHECK(*std::min_element(usage.begin(), usage.end()) > 0);
    CHECK(usage[0] > usage[20]);
    CHECK(usage[20] > usage[900]);
    // Without any order of the rows nothing but the counts is left to say.
    std::vector<double> lone(kRows, 0.0);
    lone[700] = 50;
    const auto alone = smoothedUsage(lone, lone, std::vector<double>(kRows, 1.0));
    CHECK(alone[700] > 100 * alone[100]);
}

namespace {

/// Rows drawn with the given probabilities.
std::vector<double> drawn(const std::vector<double>& probabilities, int tokens, tcompress::Random random) {
    std::vector<double> counts(probabilities.size(), 0.0), cumulated(probabilities.size());
    std::partial_sum(probabilities.begin(), probabilities.end(), cumulated.begin());
    for (int i = 0; i < tokens; ++i) {
        const double point = random.uniform() * cumulated.back();
        ++counts[static_cast<std::size_t>(std::upper_bound(cumulated.begin(), cumulated.end() - 1, point) - cumulated.begin())];
    }
    return counts;
}

}  // namespace

TEST_CASE("Rows that were not seen get about the probability that they have together") {
    std::vector<double> truth;
    for (int i = 1; i <= 5000; ++i) truth.push_back(1.0 / (i + 3));
    const double all = std::accumulate(truth.begin(), truth.end(), 0.0);
    const auto counts = drawn(truth, 1500, tcompress::Random(1, "tokens")), heldBack = drawn(truth, 500, tcompress::Random(2, "tokens"));
    const auto usage = smoothedUsage(counts, heldBack, std::vector<double>(truth.size(), 1.0));
    double unseen = 0, estimated = 0;
    for (std::size_t i = 0; i < truth.size(); ++i)
        if (counts[i] + heldBack[i] == 0) {
            unseen += truth[i] / all;
            estimated += usage[i];
        }
    INFO(estimated << " of " << unseen);
    CHECK(estimated > unseen * 0.75);
    CHECK(estimated < unseen * 1.25);
}

TEST_CASE("Where long rows are rare, unseen long rows get less than unseen short ones; where lengths say nothing, as much") {
    constexpr std::size_t kRows = 5000;
    const bool longAreRare = GENERATE(true, false);
    std::vector<double> truth, energies;
    for (std::size_t i = 0; i < kRows; ++i) {
        energies.push_back(i % 2 == 0 ? 1.0 : 2.0);
        truth.push_back((longAreRare && i % 2 == 1 ? 0.05 : 1.0) / static_cast<double>(i + 4));
    }
    const auto counts = drawn(truth, 2000, tcompress::Random(3, "tokens")), heldBack = drawn(truth, 700, tcompress::Random(4, "tokens"));
    const auto usage = smoothedUsage(counts, heldBack, energies);
    double sums[2] = {0, 0}, rows[2] = {0, 0};
    for (std::size_t i = kRows / 2; i < kRows; ++i)
        if (counts[i] + heldBack[i] == 0) {
            sums[i % 2] += usage[i];
            ++rows[i % 2];
        }
    const double ratio = (sums[1] / rows[1]) / (sums[0] / rows[0]);
    INFO(ratio);
    CHECK(ratio < (longAreRare ? 0.3 : 1.3));
    CHECK(ratio > (longAreRare ? 0.0 : 0.7));
}
