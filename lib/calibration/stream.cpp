#include "lib/calibration/stream.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "lib/calibration/batches.h"
#include "lib/calibration/fingerprint.h"
#include "lib/support/check.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::calibration {

Stream::Stream(const ir::Model& model, const data::Dataset& dataset, const Resources& resources)
    : resources_(resources), store_(resources.memoryLimitBytes) {
    edited_.model = &model;
    cutIntoBatches(dataset);
    if (!resources_.cacheFolder.empty()) {
        if (!resources_.fingerprints) resources_.fingerprints = std::make_shared<Fingerprints>();
        past_ = fmt::format("data {}\n", fingerprint(dataset));
    }
    if (sampleCount_ > 0) edited_.dataset = data::fitToModel(dataset, model);
}

Stream::Stream(const ir::Model& original, const ir::Model& edited, const data::Dataset& dataset,
               const Resources& resources)
    : Stream(edited, dataset, resources) {
    original_.model = &original;
    if (sampleCount_ > 0) original_.dataset = data::fitToModel(dataset, original);
}

void Stream::cutIntoBatches(const data::Dataset& dataset) {
    if (dataset.sampleCount() == 0) return;
    const std::int64_t size = batchSize(dataset, *edited_.model);
    const std::int64_t given = dataset.sampleCount();
    const bool isFixed = data::fixedBatchSize(*edited_.model) > 0;
    sampleCount_ = isFixed ? given / size * size : given;
    if (sampleCount_ == 0)
        throw DataError(fmt::format("{}: {} samples, the model's inputs are fixed to {} at once",
                                    dataset.origin(), given, size));
    if (sampleCount_ < given)
        log::info("{}: the last {} samples do not fill the model's fixed batch of {} and are left out",
                  dataset.origin(), given - sampleCount_, size);
    for (std::int64_t begin = 0; begin < sampleCount_; begin += size)
        batches_.push_back({begin, std::min(begin + size, sampleCount_)});
}

exec::Feeds Stream::feeds(Side side, std::size_t batch) const {
    TCOMPRESS_CHECK(ahead_.empty(), "feeds of a cut that was not settled");
    const Lane& from = lane(side);
    exec::Feeds feeds = from.dataset.rows(batches_[batch].begin, batches_[batch].end);
    for (std::size_t i = 0; i < from.cut.size(); ++i)
        feeds[from.cut[i]->name()] = store_.get(from.slots[batch * from.cut.size() + i]);
    return feeds;
}

TokenMask Stream::mask(std::size_t batch) const {
    const Lane& whole = original_.model != nullptr ? original_ : edited_;
    return TokenMask(whole.dataset.rows(batches_[batch].begin, batches_[batch].end));
}

std::string Stream::identity() const {
    if (past_.empty()) return {};
    std::string text = fmt::format("{}kernels {}\nedited {}\n", past_, fingerprintOfKernels(),
                                   resources_.fingerprints->of(*edited_.model));
    if (original_.model) text += fmt::format("original {}\n", resources_.fingerprints->of(*original_.model));
    return text;
}

void Stream::moveTo(Cut cut) {
    if (!past_.empty()) {
        past_ = identity();
        for (const Side side : {Side::edited, Side::original})
            for (const ir::Value* value : side == Side::edited ? cut.edited : cut.original)
                past_ += fmt::format("cut {} {}\n", side == Side::edited ? "edited" : "original", value->name());
    }
    ahead_.push_back(std::move(cut));
}

void Stream::settle(Progress& progress) {
    for (const Cut& cut : std::exchange(ahead_, {})) {
        advance(edited_, Side::edited, cut.edited, progress);
        if (original_.model) advance(original_, Side::original, cut.original, progress);
    }
}

void Stream::advance(Cut cut, Progress& progress) {
    moveTo(std::move(cut));
    settle(progress);
}

void Stream::advance(Lane& lane, Side side, const std::vector<const ir::Value*>& cut, Progress& progress) {
    for (const ir::Value* value : cut)
        TCOMPRESS_CHECK(lane.model->graph().find(value->name()) == value,
                        "a cut through another model's value");
    exec::ExecutorOptions options;
    options.inputs = lane.cut;
    options.outputs = cut;
    exec::Executor executor(*lane.model, options);
    const bool keepsSlots = lane.cut.size() == cut.size();
    std::vector<TensorStore::Slot> slots;
    progress.begin("calibration", sampleCount_);
    for (std::size_t batch = 0; batch < batches_.size(); ++batch) {
        const std::vector<Tensor> values = executor.run(feeds(side, batch));
        for (std::size_t i = 0; i < cut.size(); ++i) {
            if (keepsSlots)
                store_.replace(lane.slots[batch * cut.size() + i], values[i]);
            else
                slots.push_back(store_.add(values[i]));
        }
        progress.step(batchSamples(batch));
    }
    progress.end();
    if (!keepsSlots) {
        for (const TensorStore::Slot slot : lane.slots) store_.replace(slot, Tensor(DType::float32, {0}));
        lane.slots = std::move(slots);
    }
    lane.cut = cut;
}

}  // namespace tcompress::calibration
