#include "lib/calibration/collector.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "lib/calibration/fingerprint.h"
#include "lib/calibration/observation.h"
#include "lib/calibration/statistics_cache.h"
#include "lib/support/check.h"

namespace tcompress::calibration {

void Collector::run(const Stream& stream, const Statistics& statistics, Progress& progress) const {
    TCOMPRESS_CHECK(stream.model(Side::edited) == edited_ && stream.model(Side::original) == original_,
                    "a collector and a stream of different models");
    if (statistics.empty() || stream.batchCount() == 0) return;
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

void Collector::run(const Stream& stream, Progress& progress) {
    Statistics all;
    for (const auto& statistic : statistics_) all.push_back(statistic.get());
    run(stream, all, progress);
    hasRun_ = true;
}

/// Everything a statistic's result depends on.
std::string Collector::request(const Statistic& statistic, const std::string& data) const {
    std::string text = fmt::format("{}\n{}\n", statistic.kind(), data);
    for (const Source& source : statistic.sources())
        text +=
            fmt::format("{} {}\n", source.side == Side::edited ? "edited" : "original", source.value->name());
    return text;
}

void Collector::run(const data::Dataset& dataset, Progress& progress, const Resources& resources) {
    const auto streamOf = [&] {
        return original_ ? Stream(*original_, *edited_, dataset, resources)
                         : Stream(*edited_, dataset, resources);
    };
    if (dataset.sampleCount() == 0) return;
    if (resources.cacheFolder.empty() || hasRun_) return run(streamOf(), progress);
    hasRun_ = true;
    const StatisticsCache cache(resources.cacheFolder);
    std::string data = fmt::format("data {}\nedited {}\n", fingerprint(dataset), fingerprint(*edited_));
    if (original_) data += fmt::format("original {}\n", fingerprint(*original_));
    Statistics missing;
    for (const auto& statistic : statistics_) {
        if (!statistic->kind().empty() && cache.load(request(*statistic, data), *statistic)) continue;
        missing.push_back(statistic.get());
    }
    if (missing.empty()) return;
    run(streamOf(), missing, progress);
    for (Statistic* statistic : missing)
        if (!statistic->kind().empty() && !cache.store(request(*statistic, data), *statistic)) break;
}

}  // namespace tcompress::calibration
