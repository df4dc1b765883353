#pragma once

#include <filesystem>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"
#include "lib/support/progress.h"

namespace tcompress::cli {

/// Runs the model on all samples and writes each output, the samples joined along the first axis, as an array
/// of its name. A model with a fixed batch runs some samples of the last batch again; there must be enough for one batch.
/// Throws DataError when an output's shape differs between batches beyond its first axis.
void dumpOutputs(const ir::Model& model, const data::Dataset& dataset, std::int64_t batchSize,
                 const std::filesystem::path& file, Progress& progress);

}  // namespace tcompress::cli
