#pragma once
// One pass over calibration data for all the statistics that a step needs:
//
//     calibration::Collector collector(model);
//     auto& channels = collector.add<calibration::ChannelSums>(site.input);
//     auto& moments = collector.add<calibration::MomentSums>(calibration::MomentsRequest{site.input});
//     context.collect(collector, context.calibration(kPass, "neurons are scored by what they add"));
//     … channels.result().meanAbsolute, moments.take().gram …
//
// With two models, the dense original and the edited one, both run on the same batches and a statistic may
// compare values of both.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lib/calibration/resources.h"
#include "lib/calibration/statistic.h"
#include "lib/calibration/stream.h"
#include "lib/data/dataset.h"
#include "lib/support/progress.h"

namespace tcompress::calibration {

class Collector {
  public:
    /// The models must outlive the collector.
    explicit Collector(const ir::Model& model) : edited_(&model) {}
    Collector(const ir::Model& original, const ir::Model& edited) : original_(&original), edited_(&edited) {}
    /// Of the models of a stream.
    explicit Collector(const Stream& stream)
        : original_(stream.model(Side::original)), edited_(stream.model(Side::edited)) {}

    /// Makes a statistic from its constructor's arguments. It lives as long as the collector.
    template <class S, class... Arguments>
    S& add(Arguments&&... arguments) {
        auto statistic = std::make_unique<S>(std::forward<Arguments>(arguments)...);
        S& result = *statistic;
        statistics_.push_back(std::move(statistic));
        return result;
    }

    /// Runs the models on every sample (a model with a fixed batch size: on every full batch), only as far as
    /// the statistics need it. Further runs add to the same statistics. What the cache has is taken
    /// from there. Throws DataError when the data do not fit a model, PassError when a value that is looked at
    /// is not finite.
    void run(const data::Dataset& dataset, Progress& progress, const Resources& resources = {});
    /// The same from the stream's cut on, which settles when something has to be run. The stream must be of the
    /// collector's models.
    void run(Stream& stream, Progress& progress);

  private:
    using Statistics = std::vector<Statistic*>;
    void run(Stream& stream, const Statistics& statistics, Progress& progress) const;

    const ir::Model* original_ = nullptr;
    const ir::Model* edited_ = nullptr;
    std::vector<std::unique_ptr<Statistic>> statistics_;
    /// What the runs so far depended on, for the cache; not known once one was without.
    std::string past_;
    bool isKnown_ = true;
};

}  // namespace tcompress::calibration
