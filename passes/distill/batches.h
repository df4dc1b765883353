#pragma once
// Samples in the order that they are learnt from: each once an epoch, in a random order, sentences of about one length
// together, so that little of a batch is padding.

#include <cstdint>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/exec/executor.h"
#include "lib/measure/padding.h"
#include "lib/support/random.h"

namespace tcompress::passes {

/// Cuts columns that are padding in all rows of a batch, to a few different lengths.
class ShortBatches {
  public:
    ShortBatches(const ir::Model& model, const data::Dataset& samples);
    exec::Feeds cut(exec::Feeds feeds) const;

  private:
    measure::PaddingCut padding_;
    std::int64_t multiple_;
};

class LearningBatches {
  public:
    /// Batches of `size` samples, of which there are as many at least. `samples` must outlive it.
    LearningBatches(const ir::Model& model, const data::Dataset& samples, std::int64_t size, Random random);

    exec::Feeds next();

  private:
    void beginEpoch();

    const data::Dataset& samples_;
    std::int64_t size_;
    Random random_;
    ShortBatches padding_;
    std::vector<std::int64_t> lengths_;                ///< tokens by sample; 0 where no mask tells
    std::vector<std::vector<std::int64_t>> waiting_;  ///< batches of this epoch that are to come, the next one last
};

}  // namespace tcompress::passes
