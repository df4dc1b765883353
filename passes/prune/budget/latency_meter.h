#pragma once
// Seconds that a model takes on this machine at one input, by the program's own executor: the least of many runs. What
// else the machine does only ever adds to a run, so more runs come nearer to the truth and never pass it.

#include <cstdint>
#include <string>
#include <utility>

#include "lib/data/dataset.h"
#include "lib/exec/executor.h"
#include "lib/ir/model.h"

namespace tcompress::passes {

class LatencyMeter {
  public:
    /// `sample` is what is fed; `threads` are used meanwhile.
    LatencyMeter(exec::Feeds sample, int threads) : sample_(std::move(sample)), threads_(threads) {}

    double seconds(const ir::Model& model) const;

  private:
    exec::Feeds sample_;
    int threads_;
};

/// What a table of times is good for: this processor, so many threads, these input shapes, and the model's operators
/// and shapes (not its weights), as lower-case hexadecimal.
std::string latencyKey(const ir::Model& model, const exec::Feeds& sample, int threads);

}  // namespace tcompress::passes
