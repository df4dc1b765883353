#include "lib/calibration/collector.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "lib/calibration/observation.h"
#include "lib/calibration/statistics_cache.h"
#include "lib/support/check.h"

namespace tcompress::calibration {

namespace {

/// Everything a statistic's result depends on.
std::string request(const Statistic& statistic, const std::string& past) {
    std::string text = fmt::format("{}\n{}\n", statistic.kind(), past);
    for (const Source& source : statistic.sources())
        text +=
            fmt::format("{} {}\n", source.side == Side::edited ? "edited" : "original", source.value->name());
    return text;
}

}  // namespace

void Collector::run(Stream& stream, const Statistics& statistics, Progress& progress) const {
    TCOMPRESS_CHECK(stream.model(Side::edited) == edited_ && stream.model(Side::original) == original_,
                    "a collector and a stream of different models");
    if (statistics.empty() || stream.batchCount() == 0) return;
    stream.settle(progress);
    Deliveries deliveries(statistics);
    std::vector<std::unique_ptr<ObservedModel>> models;
    for (const Side side : {Side::original, Side::edited}) {
        if (!deliveries.needs(side)) continue;
        TCOMPRESS_CHECK(stream.model(side), "a statistic of the original, and only one model");
        models.push_back(std::make_unique<ObservedModel>(stream, side, deliveries));
    }
    progress.begin("calibration", stream.sampleCount());
    for (std::size_t batch = 0; batch < stream.batchCount(); ++batch) {
        for (const auto& model : models) model->run(batch);
        deliveries.endBatch();
        progress.step(stream.batchSamples(batch));
    }
    progress.end();
}

void Collector::run(Stream& stream, Progress& progress) {
    const std::filesystem::path& folder = stream.resources().cacheFolder;
    if (stream.batchCount() == 0) return;
    const bool usesCache = isKnown_ && !folder.empty();
    isKnown_ = usesCache;
    const StatisticsCache cache(folder);
    if (usesCache) past_ += stream.identity();
    const auto isKept = [&](const Statistic& statistic) { return usesCache && !statistic.kind().empty(); };
    Statistics missing;
    for (const auto& statistic : statistics_)
        if (!isKept(*statistic) || !cache.load(request(*statistic, past_), *statistic))
            missing.push_back(statistic.get());
    run(stream, missing, progress);
    for (Statistic* statistic : missing)
        if (isKept(*statistic) && !cache.store(request(*statistic, past_), *statistic)) break;
}

void Collector::run(const data::Dataset& dataset, Progress& progress, const Resources& resources) {
    if (dataset.sampleCount() == 0) return;
    Stream stream = original_ ? Stream(*original_, *edited_, dataset, resources) : Stream(*edited_, dataset, resources);
    run(stream, progress);
}

}  // namespace tcompress::calibration
