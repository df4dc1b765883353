#pragma once
// What makes two models, or two sets of samples, the same to a statistic: SHA-256 of their content, wherever
// it came from.

#include <string>

#include "lib/data/dataset.h"
#include "lib/ir/model.h"

namespace tcompress::calibration {

/// Of the whole model, weights included, as lower-case hexadecimal.
std::string fingerprint(const ir::Model& model);
/// Of names, types, shapes and elements of the arrays; labels do not count.
std::string fingerprint(const data::Dataset& dataset);

}  // namespace tcompress::calibration
