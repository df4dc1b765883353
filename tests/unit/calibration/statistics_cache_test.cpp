// Statistics that are kept: found again for the same model, data and request, not for others, and made anew
// when the file is damaged.

#include "lib/calibration/statistics_cache.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "lib/calibration/archive.h"
#include "lib/calibration/channel_statistics.h"
#include "lib/calibration/collector.h"
#include "lib/calibration/fingerprint.h"
#include "lib/calibration/histogram.h"
#include "lib/calibration/moments.h"
#include "lib/calibration/outliers.h"
#include "lib/calibration/similarity.h"
#include "lib/calibration/token_counts.h"
#include "lib/calibration/value_range.h"
#include "lib/ir/load.h"
#include "tests/support/files.h"
#include "tests/unit/calibration/counter.h"

namespace {

using namespace tcompress;
using namespace tcompress::calibration;
using test::Counter;
namespace fs = std::filesystem;

struct Folder {
    Folder() : path(fs::temp_directory_path() / ("tcompress-cache-test-" + std::to_string(::getpid()))) {
        fs::remove_all(path);
    }
    ~Folder() { fs::remove_all(path); }
    fs::path path;
};

ir::Model layer(float weight) {
    return ir::fromText(
        "<ir_version: 10, opset_import: [\"\" : 18]>\nagraph (float[N, 2] x) => (float[N, 2] y)\n<float[2, "
        "2] w = {" +
        std::to_string(weight) + ", 0, 0, 1}> { h = MatMul(x, w)\n y = Relu(h) }");
}

data::Dataset samples(float first) {
    return data::Dataset({{"x", Tensor::of<float>({3, 2}, {first, 2, -3, 4, 5, -6})}}, std::nullopt,
                         "samples");
}

/// All statistics of one value, as bytes.
std::vector<std::vector<std::byte>> collected(const ir::Model& model, const data::Dataset& dataset,
                                              const fs::path& folder, Counter& counter) {
    const ir::Value* h = model.graph().find("h");
    const ir::Value* y = model.graph().find("y");
    Collector collector(model);
    const std::vector<Statistic*> statistics{
        &collector.add<ChannelSums>(h),          &collector.add<MinMaxRange>(h),
        &collector.add<MovingRange>(h),          &collector.add<ChannelRanges>(h),
        &collector.add<HistogramCounts>(h, 64),  &collector.add<TopOutliers>(h, 3),
        &collector.add<TokenCounts>(h),          &collector.add<SimilaritySums>(h, y),
        &collector.add<HistogramCounts>(h, 128), &collector.add<MomentSums>(MomentsRequest{h, {{{2, y}}}}),
    };
    collector.run(dataset, counter, {.cacheFolder = folder});
    std::vector<std::vector<std::byte>> bytes;
    for (Statistic* statistic : statistics) {
        Archive archive;
        statistic->transfer(archive);
        bytes.push_back(archive.take());
    }
    return bytes;
}

}  // namespace

TEST_CASE("a second run takes every kind of statistic from the cache") {
    const Folder folder;
    Counter counter;
    const auto first = collected(layer(2), samples(1), folder.path, counter);
    CHECK(counter.runs == 1);
    CHECK(test::entryCount(folder.path) == first.size());
    CHECK((collected(layer(2), samples(1), folder.path, counter) == first));
    CHECK(counter.runs == 1);
    Counter without;
    CHECK((collected(layer(2), samples(1), {}, without) == first));
    CHECK(without.runs == 1);
}

TEST_CASE("another weight, another sample, another request are not found") {
    const Folder folder;
    Counter counter;
    const auto first = collected(layer(2), samples(1), folder.path, counter);
    CHECK((collected(layer(3), samples(1), folder.path, counter) != first));
    CHECK(counter.runs == 2);
    CHECK((collected(layer(2), samples(7), folder.path, counter) != first));
    CHECK(counter.runs == 3);
    const ir::Model model = layer(2);
    Collector collector(model);
    const auto& y = collector.add<ChannelSums>(model.graph().find("y"));
    collector.run(samples(1), counter, {.cacheFolder = folder.path});
    CHECK(counter.runs == 4);
    CHECK(y.result().rows == 3);
    CHECK(fingerprint(layer(2)) == fingerprint(layer(2)));
    CHECK(fingerprint(layer(2)) != fingerprint(layer(3)));
}

TEST_CASE("a damaged entry is noticed, made anew and mended") {
    const Folder folder;
    Counter counter;
    const auto first = collected(layer(2), samples(1), folder.path, counter);
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder.path)) files.push_back(entry.path());
    int runs = counter.runs;
    for (const fs::path& file : files) {
        const std::string whole = test::readFile(file);
        std::string flipped = whole;
        flipped.back() = static_cast<char>(flipped.back() ^ 1);
        for (const std::string& damaged : {flipped, whole.substr(0, whole.size() / 2), std::string(),
                                           std::string("nonsense"), whole + "x"}) {
            test::writeFile(file, damaged);
            CHECK((collected(layer(2), samples(1), folder.path, counter) == first));
            CHECK(counter.runs == ++runs);
            CHECK((test::readFile(file) == whole));
        }
    }
}

TEST_CASE("an entry of another form leaves the statistic as it was") {
    const Folder folder;
    const StatisticsCache cache(folder.path);
    const std::vector<float> values{1, 2, 3};
    const Rows rows{3, 1, values};
    MinMaxRange range(nullptr);
    range.add({&rows, 1});
    cache.store("request", range);
    ChannelSums sums(nullptr);
    sums.add({&rows, 1});
    CHECK_FALSE(cache.load("request", sums));
    CHECK(sums.result().mean == std::vector<double>{2});
    MinMaxRange again(nullptr);
    CHECK(cache.load("request", again));
    CHECK(again.result() == ValueRange{1, 3});
}

TEST_CASE("a folder that cannot be written costs nothing but the cache") {
    Counter counter;
    const auto first = collected(layer(2), samples(1), "/proc/nowhere", counter);
    CHECK(counter.runs == 1);
    CHECK(first.size() == 10);
}
