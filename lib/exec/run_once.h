#pragma once
// A model's outputs for one set of inputs, when it will not run again: weights are packed when their node runs and go
// right after it, so that the memory is that of one packed weight and not of all.

#include <vector>

#include "lib/exec/executor.h"

namespace tcompress::exec {

/// What Executor(model).run(feeds) returns, and throws; that a node with a large weight cannot run is said when its turn
/// comes, not before the first node has run.
std::vector<Tensor> runOnce(const ir::Model& model, const Feeds& feeds);

}  // namespace tcompress::exec
