#include <fmt/core.h>

#include "lib/calibration/collector.h"
#include "lib/data/calibration_data.h"
#include "lib/pipeline/pass.h"
#include "lib/support/error.h"

namespace tcompress::pipeline {

PassContext::PassContext(const data::CalibrationData* calibration, std::uint64_t seed, std::string position,
                         Progress& progress)
    : PassContext(calibration, seed, std::move(position), progress, std::make_shared<ViewCache>()) {}

PassContext::PassContext(const data::CalibrationData* calibration, std::uint64_t seed, std::string position,
                         Progress& progress, std::shared_ptr<ViewCache> views,
                         calibration::Resources resources)
    : calibration_(calibration),
      seed_(seed),
      position_(std::move(position)),
      progress_(progress),
      views_(std::move(views)),
      resources_(std::move(resources)) {}

namespace {

const data::CalibrationData& required(const data::CalibrationData* calibration, std::string_view pass,
                                      std::string_view why) {
    if (calibration == nullptr)
        throw PassError(
            fmt::format("{}: {}; give calibration data with --calibration FILE or as data.calibration in the "
                        "pipeline file",
                        pass, why));
    return *calibration;
}

}  // namespace

const data::Dataset& PassContext::calibration(std::string_view pass, std::string_view why) const {
    return required(calibration_, pass, why).all();
}

const data::Dataset& PassContext::givenCalibration(std::string_view pass, std::string_view why) const {
    return required(calibration_, pass, why).given();
}

data::Split PassContext::calibrationSplit(std::string_view pass, std::string_view why,
                                          double heldBackShare) const {
    return required(calibration_, pass, why).split(heldBackShare);
}

void PassContext::collect(calibration::Collector& collector, const data::Dataset& samples) const {
    collector.run(samples, progress_, resources_);
}

calibration::Stream PassContext::stream(const ir::Model& model, const data::Dataset& samples) const {
    return {model, samples, resources_};
}

calibration::Stream PassContext::stream(const ir::Model& original, const ir::Model& edited,
                                        const data::Dataset& samples) const {
    return {original, edited, samples, resources_};
}

void PassContext::collect(calibration::Collector& collector, calibration::Stream& stream) const {
    collector.run(stream, progress_);
}

void PassContext::advance(calibration::Stream& stream, const calibration::Cut& cut) const {
    stream.advance(cut, progress_);
}

const analysis::TransformerView& PassContext::view(const ir::Model& model) const {
    return views_->view(model);
}

Random PassContext::random(std::string_view purpose) const {
    return {seed_, fmt::format("{}/{}", position_, purpose)};
}

const analysis::TransformerView& ViewCache::view(const ir::Model& model) {
    if (views_.empty() || newestGraph_ != &model.graph() || newestRevision_ != model.revision()) {
        views_.push_back(std::make_unique<analysis::TransformerView>(analysis::recognise(model)));
        newestGraph_ = &model.graph();
        newestRevision_ = model.revision();
    }
    return *views_.back();
}

void ViewCache::forget() {
    if (views_.size() > 1) views_.erase(views_.begin(), views_.end() - 1);
}

}  // namespace tcompress::pipeline
