#pragma once
// Runs a model whose weights may not fit into memory twice. An Executor packs them once, beside the file; where that is more
// than there is room for, each run packs a weight when its node runs and lets it go (run_once.h): slow, but within memory.

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/exec/executor.h"
#include "lib/support/free_memory.h"

namespace tcompress::exec {

/// About what an Executor holds of the weights beside their file: those that products read, packed, and all that are float16,
/// as float32.
std::uint64_t packedWeightBytes(const ir::Model& model);

/// Whether there is room for them, and for values beside them.
bool weightsFit(const ir::Model& model, std::uint64_t freeBytes = freeMemoryBytes());

class FittingExecutor {
  public:
    /// As Executor's. `freeBytes`: what weights may take. Throws ModelError when they cannot even be widened within that.
    explicit FittingExecutor(const ir::Model& model, std::uint64_t freeBytes = freeMemoryBytes());

    /// As Executor's.
    std::vector<Tensor> run(const Feeds& feeds);

    /// Whether weights stay packed from run to run. Otherwise times of runs are those of packing.
    bool keepsWeights() const { return executor_.has_value(); }

  private:
    const ir::Model& model_;
    std::optional<Executor> executor_;
};

}  // namespace tcompress::exec
