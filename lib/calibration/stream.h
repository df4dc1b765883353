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
//         context.advance(stream, {{block.output}});      // runs the edited block once
//     }
//
// Only the cut's values are kept, for every sample, in memory up to a limit, then in a temporary file. What
// else a block reads (masks, positions, shapes) is computed again from the inputs; where that would run
// earlier blocks again (the encoder's output in a decoder), the cut must hold it.

#include <vector>

#include "lib/calibration/resources.h"
#include "lib/calibration/statistic.h"
#include "lib/calibration/tensor_store.h"
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

    /// Moves on to another cut, computing its values from those of the present one.
    void advance(const Cut& cut, Progress& progress);

    /// Null for the original of a stream of one model.
    const ir::Model* model(Side side) const { return lane(side).model; }
    const std::vector<const ir::Value*>& cut(Side side) const { return lane(side).cut; }
    std::int64_t sampleCount() const { return sampleCount_; }
    std::size_t batchCount() const { return batches_.size(); }
    std::int64_t batchSamples(std::size_t batch) const { return batches_[batch].end - batches_[batch].begin; }
    /// The inputs of the model and the values of the cut, by name.
    exec::Feeds feeds(Side side, std::size_t batch) const;
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

    Lane edited_, original_;
    std::vector<Batch> batches_;
    std::int64_t sampleCount_ = 0;
    TensorStore store_;
};

}  // namespace tcompress::calibration
