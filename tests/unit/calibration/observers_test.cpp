// Streaming statistics against the same statistics of all the data at once.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "lib/calibration/histogram.h"
#include "lib/calibration/outliers.h"
#include "lib/calibration/token_counts.h"
#include "lib/calibration/value_range.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"

namespace {

using namespace tcompress;
using namespace tcompress::calibration;

std::vector<float> normal(std::size_t count, const char* name, double scale = 1, double shift = 0) {
    Random random(9, name);
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(random.normal() * scale + shift);
    return values;
}

/// Feeds values in batches of very different sizes.
void feed(Statistic& statistic, const std::vector<float>& values, std::int64_t channels) {
    const auto rows = static_cast<std::int64_t>(values.size()) / channels;
    std::int64_t size = 1;
    for (std::int64_t row = 0; row < rows; row += size, size = size * 3 + 1) {
        size = std::min(size, rows - row);
        const Rows batch{size, channels,
                         std::span(values).subspan(static_cast<std::size_t>(row * channels),
                                                   static_cast<std::size_t>(size * channels))};
        statistic.add({&batch, 1});
    }
}

Rows none() { return {}; }

/// Cells of the final grid, counted one by one.
std::vector<std::uint64_t> countedAtOnce(const Histogram& histogram, const std::vector<float>& values) {
    std::vector<std::uint64_t> counts(histogram.counts().size());
    const double first = std::floor(histogram.edge(0) / histogram.width());
    for (const float value : values)
        ++counts.at(
            static_cast<std::size_t>(std::floor(static_cast<double>(value) / histogram.width()) - first));
    return counts;
}

}  // namespace

TEST_CASE("a histogram that grew is the histogram of all the data") {
    const auto mixed = [] {
        std::vector<float> values = normal(20000, "narrow", 1e-3, 0.5);
        for (const float value : normal(3000, "wide", 30)) values.push_back(value);
        values.push_back(-7e4F);
        values.insert(values.begin(), {0.0F, 0.0F, 1e-30F});
        return values;
    }();
    for (const std::vector<float>& values :
         {mixed, normal(5000, "plain"), normal(100, "far", 1e-3, 1e4), std::vector<float>{3.0F},
          std::vector<float>{0, 0}, std::vector<float>{-1e-44F, 3e38F, -3e38F}, std::vector<float>{1e-44F}}) {
        for (const std::int64_t cells : {16, 4096}) {
            HistogramCounts counts(nullptr, cells);
            feed(counts, values, 1);
            const Histogram& found = counts.result();
            INFO(values.size() << " values in " << cells << " cells of width " << found.width());
            CHECK(found.total() == values.size());
            CHECK(found.minimum() == *std::min_element(values.begin(), values.end()));
            CHECK(found.maximum() == *std::max_element(values.begin(), values.end()));
            CHECK(found.counts() == countedAtOnce(found, values));
            // As fine as the cells allow, if not as fine as floats of this size or at all are: on a grid half
            // as wide the range would not fit.
            const double range = static_cast<double>(found.maximum()) - static_cast<double>(found.minimum());
            const double largest = std::max(std::fabs(found.minimum()), std::fabs(found.maximum()));
            if (found.width() > std::max(largest * 1e-8, 1e-36))
                CHECK(found.width() * static_cast<double>(cells) < 2.1 * range + 2 * found.width());

            std::vector<float> backwards(values.rbegin(), values.rend());
            HistogramCounts again(nullptr, cells);
            feed(again, backwards, 1);
            CHECK(again.result() == found);
        }
    }
}

TEST_CASE("counts of magnitudes fold the two sides") {
    HistogramCounts counts(nullptr, 64);
    const std::vector<float> values = normal(4000, "two sides", 2, 0.7);
    feed(counts, values, 1);
    double width = 0;
    const std::vector<std::uint64_t> folded = counts.result().absoluteCounts(width);
    REQUIRE(folded.size() <= 64);
    std::vector<std::uint64_t> expected(folded.size());
    for (const float value : values) ++expected.at(static_cast<std::size_t>(std::fabs(value) / width));
    CHECK(folded == expected);
    CHECK(folded.back() > 0);

    HistogramCounts far(nullptr, 64);
    feed(far, normal(100, "far", 1e-3, -1000), 1);
    const std::vector<std::uint64_t> coarse = far.result().absoluteCounts(width);
    CHECK(coarse.size() <= 64);
    CHECK(std::accumulate(coarse.begin(), coarse.end(), std::uint64_t{0}) == 100);
    CHECK(width * static_cast<double>(coarse.size()) >= 1000);
}

TEST_CASE("a histogram is the same for any number of threads") {
    struct Restore {
        ~Restore() { setThreadCount(0); }
    } restore;
    const std::vector<float> values = normal(1 << 20, "many");
    setThreadCount(1);
    Histogram one;
    one.add(values);
    for (const int threads : {2, 3, 8}) {
        setThreadCount(threads);
        Histogram many;
        many.add(values);
        CHECK(many == one);
    }
}

TEST_CASE("ranges of a value, of its channels, and their moving average") {
    const std::int64_t channels = 5;
    const std::vector<float> values = normal(5 * 700, "range", 1, 2);
    MinMaxRange whole(nullptr);
    ChannelRanges byChannel(nullptr);
    const Rows empty = none();
    whole.add({&empty, 1});
    byChannel.add({&empty, 1});
    CHECK(whole.result() == ValueRange{0, 0});
    CHECK(byChannel.result().empty());
    feed(whole, values, channels);
    feed(byChannel, values, channels);
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    CHECK(whole.result() == ValueRange{*low, *high});
    REQUIRE(byChannel.result().size() == 5);
    for (std::size_t c = 0; c < 5; ++c) {
        ValueRange expected{values[c], values[c]};
        for (std::size_t i = c; i < values.size(); i += 5)
            expected = {std::min(expected.low, values[i]), std::max(expected.high, values[i])};
        CHECK(byChannel.result()[c] == expected);
        CHECK(byChannel.absoluteMaxima()[c] == std::max(std::fabs(expected.low), std::fabs(expected.high)));
    }

    MovingRange moving(nullptr, 0.75);
    for (const std::vector<float>& batch : {std::vector<float>{1, 3}, {-2, 2}, {0, 8}}) {
        const Rows rows{2, 1, batch};
        moving.add({&rows, 1});
    }
    moving.add({&empty, 1});
    CHECK(moving.result().low == Approx(0.75 * (0.75 * 1 + 0.25 * -2) + 0.25 * 0));
    CHECK(moving.result().high == Approx(0.75 * (0.75 * 3 + 0.25 * 2) + 0.25 * 8));
}

TEST_CASE("the largest magnitudes with their places") {
    const std::int64_t channels = 7;
    std::vector<float> values = normal(7 * 400, "outliers");
    values[7 * 33 + 2] = -50;
    values[7 * 333 + 5] = 50;
    values[7 * 334 + 5] = 49;
    TopOutliers top(nullptr, 40);
    feed(top, values, channels);
    std::vector<Outlier> expected;
    for (std::size_t i = 0; i < values.size(); ++i)
        expected.push_back({values[i], static_cast<std::int32_t>(i % 7), static_cast<std::int64_t>(i / 7)});
    std::stable_sort(expected.begin(), expected.end(), [](const Outlier& a, const Outlier& b) {
        return std::fabs(a.value) > std::fabs(b.value);
    });
    expected.resize(40);
    CHECK(top.result() == expected);
    CHECK(top.result()[0] == Outlier{-50, 2, 33});

    TopOutliers all(nullptr, 10), nothing(nullptr, 0);
    feed(all, {3, -1, 2}, 1);
    feed(nothing, {3, -1, 2}, 1);
    CHECK(all.result() == std::vector<Outlier>{{3, 0, 0}, {2, 0, 2}, {-1, 0, 1}});
    CHECK(nothing.result().empty());
}

TEST_CASE("tokens are counted") {
    TokenCounts counts(nullptr);
    feed(counts, {7, 30521, 7, 0, 7, 30521}, 1);
    CHECK(counts.result() == std::map<std::int64_t, std::int64_t>{{0, 1}, {7, 3}, {30521, 2}});
}
