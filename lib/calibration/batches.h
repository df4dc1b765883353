#pragma once
// How calibration data are cut into batches: by their shapes and the model's, so that sums over batches do
// not depend on anything else.

#include <cstdint>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"

namespace tcompress::calibration {

/// Samples of a batch: what the model's inputs fix, else about 1024 tokens (integer arrays [samples,
/// tokens]), at least 1 and at most 64 samples; 16 where there are no tokens.
std::int64_t batchSize(const data::Dataset& dataset, const ir::Model& model);

}  // namespace tcompress::calibration
