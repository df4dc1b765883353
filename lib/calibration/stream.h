#pragma once
// Calibration data on their way through a model. The stream stands at a cut, a few values between which and
// the inputs nothing has to be computed any more: at first the inputs, then, block after block, the values of
// the residual stream. Methods that must see what their own earlier edits did (GPTQ's "true sequential",
// SparseGPT) work with one:
//
//     calibration::Stream stream = context.stream(model, samples);
//     for (const analysis::Block& block : blocks) {
//         calibration::Collector collector(model);        // statistics of values inside the block
//         context.collect(collector, stream);             // runs from the cut to these values
//         … edit the block's weights …
//         stream.moveTo({{block.output}});                // runs the edited block once
//     }
//
// Moving waits until something is run from the new cut: statistics that are in the cache (statistics_cache.h) are not.
//
// Only the cut's values are kept, for every sample, in memory up to a limit, then in a temporary file. What
// else a block reads (masks, positions, shapes) is computed again from the inputs; where that would run
// earlier blocks again (the encoder's output in a decoder), the cut must hold it.

#include <string>
#include <vector>

#include "lib/calibration/resources.h"
#include "lib/calibration/statistic.h"
#include "lib/calibration/tensor_store.h"
#include "lib/calibration/token_mask.h"
#include "lib/data/dataset.h"
#include "lib/exec/executor.h"
#include "lib/support/progress.h"

namespace tcompress::calibration {

/// Computed values of each model; none: the inputs.
struct Cut {
    std::vector<const ir::Value*> edited = {};
    std::vector<const ir::Value*> original = {};
};

class Stream {
  public:
    /// Stands at the inputs. The models must outlive the stream. They may be edited between calls, as long as
    /// the values of the cut stay. Throws DataError when the data do not fit a model.
    Stream(const ir::Model& model, const data::Dataset& dataset, const Resources& resources = {});
    Stream(const ir::Model& original, const ir::Model& edited, const data::Dataset& dataset,
           const Resources& resources = {});

    /// Moves on to another cut. Nothing that the models compute before it may change any more.
    void moveTo(Cut cut);
    /// Computes the values of the cut that was moved to, each cut's from those of the one before.
    void settle(Progress& progress);
    /// Both at once.
    void advance(Cut cut, Progress& progress);

    /// Null for the original of a stream of one model.
    const ir::Model* model(Side side) const { return lane(side).model; }
    /// Where the stream has settled.
    const std::vector<const ir::Value*>& cut(Side side) const { return lane(side).cut; }
    /// A text of all that values of the models depend on as they are now, between the cut and the outputs. Empty
    /// without a cache.
    std::string identity() const;
    const Resources& resources() const { return resources_; }
    std::int64_t sampleCount() const { return sampleCount_; }
    std::size_t batchCount() const { return batches_.size(); }
    std::int64_t batchSamples(std::size_t batch) const { return batches_[batch].end - batches_[batch].begin; }
    /// The inputs of the model and the values of the cut where the stream has settled, by name.
    exec::Feeds feeds(Side side, std::size_t batch) const;
    /// One for both models, so that they show the same rows: the edited one may not read all masks any more.
    TokenMask mask(std::size_t batch) const;
    const TensorStore& store() const { return store_; }

  private:
    struct Batch {
        std::int64_t begin = 0, end = 0;
    };
    /// One of the models.
    struct Lane {
        const ir::Model* model = nullptr;
        data::Dataset dataset;
        std::vector<const ir::Value*> cut;
        std::vector<TensorStore::Slot> slots;  // [batch][value of the cut]
    };
    void cutIntoBatches(const data::Dataset& dataset);
    void advance(Lane& lane, Side side, const std::vector<const ir::Value*>& cut, Progress& progress);
    const Lane& lane(Side side) const { return side == Side::edited ? edited_ : original_; }

    Resources resources_;
    Lane edited_, original_;
    std::vector<Cut> ahead_;  ///< moved to, not settled yet
    std::string past_;        ///< of the data and the models at each cut
    std::vector<Batch> batches_;
    std::int64_t sampleCount_ = 0;
    TensorStore store_;
};

}  // namespace tcompress::calibration
