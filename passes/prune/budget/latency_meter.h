#pragma once
// Seconds that a model takes on this machine at one input, by the program's own executor. Each model is timed in turns
// with the one that it came from, and the least of many runs counts, so that what else the machine does hits both
// alike or not at all.

#include <cstdint>
#include <memory>
#include <string>

#include "lib/data/dataset.h"
#include "lib/exec/executor.h"
#include "lib/ir/model.h"

namespace tcompress::passes {

class LatencyMeter {
  public:
    /// `sample` is what is fed; `threads` are used meanwhile. The model must outlive the meter.
    LatencyMeter(const ir::Model& model, exec::Feeds sample, int threads);

    double seconds(const ir::Model& variant);

  private:
    const ir::Model& model_;
    exec::Feeds sample_;
    int threads_;
    exec::Executor original_;
    double originalSeconds_ = 0;
};

/// What a table of times is good for: this processor, so many threads, these input shapes, and the model's operators
/// and shapes (not its weights), as lower-case hexadecimal.
std::string latencyKey(const ir::Model& model, const exec::Feeds& sample, int threads);

}  // namespace tcompress::passes
