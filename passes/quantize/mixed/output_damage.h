#pragma once
// How far the outputs of an edited model are from the original's.

#include "lib/calibration/resources.h"
#include "lib/data/dataset.h"
#include "lib/ir/model.h"

namespace tcompress::passes {

/// Throws PassError when no output of the model is a computed floating-point value.
void requireFloatOutput(const ir::Model& model);

/// ‖y − ŷ‖² / ‖y‖² over the samples, padding left out, the mean over the model's floating-point outputs.
/// `edited` has the outputs of `original`, in the same order.
double outputDamage(const ir::Model& original, const ir::Model& edited, const data::Dataset& samples,
                    const calibration::Resources& resources = {});

}  // namespace tcompress::passes
