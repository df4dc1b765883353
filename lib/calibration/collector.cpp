#include "lib/calibration/collector.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "lib/calibration/batches.h"
#include "lib/calibration/observed_rows.h"
#include "lib/exec/executor.h"
#include "lib/support/check.h"
#include "lib/support/error.h"

namespace tcompress::calibration {

namespace {

/// A statistic and the sources of the batch in flight that it still waits for.
struct Waiting {
    Statistic* statistic = nullptr;
    std::vector<Source> sources;
    std::vector<std::shared_ptr<ObservedRows>> seen;

    void add(std::size_t position, const std::shared_ptr<ObservedRows>& rows) {
        seen[position] = rows;
        if (std::find(seen.begin(), seen.end(), nullptr) != seen.end()) return;
        std::vector<Rows> values;
        for (const auto& source : seen) values.push_back(source->rows());
        statistic->add(values);
        forget();
    }
    void forget() { std::fill(seen.begin(), seen.end(), nullptr); }
};

/// Who reads a value, and as which of its sources.
struct Reader {
    Waiting* waiting = nullptr;
    std::size_t position = 0;
};

/// One of the models with its data, its plan and the readers of its values.
class Runner : public exec::Observer {
  public:
    Runner(const ir::Model& model, Side side, std::vector<Waiting>& statistics, const data::Dataset& dataset)
        : dataset_(data::fitToModel(dataset, model)) {
        for (Waiting& waiting : statistics)
            for (std::size_t i = 0; i < waiting.sources.size(); ++i) {
                const Source& source = waiting.sources[i];
                if (source.side != side) continue;
                TCOMPRESS_CHECK(model.graph().find(source.value->name()) == source.value,
                                "a statistic of a value of another model");
                readers_[source.value].push_back({&waiting, i});
            }
        exec::ExecutorOptions options;
        options.outputs.emplace();
        executor_.emplace(model, options, this);
    }

    void run(std::int64_t begin, std::int64_t end) {
        const exec::Feeds feeds = dataset_.rows(begin, end);
        mask_ = TokenMask(feeds);
        executor_->run(feeds);
    }

    bool wants(const ir::Value& value) const override { return readers_.contains(&value); }

    void observe(const ir::Value& value, const Tensor& tensor) override {
        const auto rows = std::make_shared<ObservedRows>(tensor, mask_);
        requireFinite(value, rows->rows());
        const std::vector<Reader>& readers = readers_.at(&value);
        const bool isHeld = std::any_of(readers.begin(), readers.end(),
                                        [](const Reader& reader) { return reader.waiting->sources.size() > 1; });
        if (isHeld) rows->own();
        for (const Reader& reader : readers) reader.waiting->add(reader.position, rows);
    }

  private:
    static void requireFinite(const ir::Value& value, const Rows& rows) {
        // A sum is finite only where every term is; x − x is 0 or NaN, so nothing overflows.
        float sum = 0;
        for (const float x : rows.values) sum += x - x;
        if (sum == 0) return;
        throw PassError(
            fmt::format("value '{}' is not finite on the calibration data; check the data and the model with "
                        "'tcompress eval'",
                        value.name()));
    }

    data::Dataset dataset_;
    std::map<const ir::Value*, std::vector<Reader>> readers_;
    std::optional<exec::Executor> executor_;
    TokenMask mask_;
};

}  // namespace

Collector::Collector(const ir::Model& model) : edited_(&model) {}

Collector::Collector(const ir::Model& original, const ir::Model& edited)
    : original_(&original), edited_(&edited) {}

void Collector::run(const data::Dataset& dataset, Progress& progress) {
    std::vector<Waiting> statistics;
    for (const auto& statistic : statistics_) {
        Waiting& waiting = statistics.emplace_back(Waiting{statistic.get(), statistic->sources(), {}});
        waiting.seen.resize(waiting.sources.size());
        for (const Source& source : waiting.sources)
            TCOMPRESS_CHECK(source.side == Side::edited || original_, "a collector of one model has no original");
    }
    if (dataset.sampleCount() == 0 || statistics.empty()) return;
    const std::int64_t size = batchSize(dataset, *edited_);
    const bool isFixed = data::fixedBatchSize(*edited_) > 0;
    const std::int64_t samples = isFixed ? dataset.sampleCount() / size * size : dataset.sampleCount();
    if (samples == 0)
        throw DataError(fmt::format("{}: {} samples, the model's inputs are fixed to {} at once", dataset.origin(),
                                    dataset.sampleCount(), size));
    std::vector<std::unique_ptr<Runner>> runners;
    const auto addRunner = [&](const ir::Model* model, Side side) {
        const bool isNeeded = std::any_of(statistics.begin(), statistics.end(), [&](const Waiting& waiting) {
            return std::any_of(waiting.sources.begin(), waiting.sources.end(),
                               [&](const Source& source) { return source.side == side; });
        });
        if (isNeeded) runners.push_back(std::make_unique<Runner>(*model, side, statistics, dataset));
    };
    addRunner(original_, Side::original);
    addRunner(edited_, Side::edited);
    progress.begin("calibration", samples);
    for (std::int64_t begin = 0; begin < samples; begin += size) {
        const std::int64_t end = std::min(begin + size, samples);
        for (const auto& runner : runners) runner->run(begin, end);
        for (Waiting& waiting : statistics) waiting.forget();
        progress.step(end - begin);
    }
    progress.end();
}

}  // namespace tcompress::calibration
