#pragma once
// A registry of passes that do nothing, to test everything around them.

#include <vector>

#include "lib/pipeline/pass.h"

namespace tcompress::pipeline::test {

/// quantize/dynamic (default) and quantize/weight-only; prune/magnitude (default) and prune/neuron, told
/// apart by `structure`; cleanup, a family of one; train/distill and train/finetune without a default.
std::vector<PassInfo> fakeRegistry();

}  // namespace tcompress::pipeline::test
