#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"

namespace tcompress::cli {

/// Runs the model on one batch, of the dataset's first samples or of random ones, several times. Returns a
/// table of the time by operator and kernel with its share, and of the kernels that refused.
std::string profileText(const ir::Model& model, const std::optional<data::Dataset>& dataset,
                        std::int64_t batch);

}  // namespace tcompress::cli
