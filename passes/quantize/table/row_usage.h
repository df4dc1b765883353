#pragma once
// How often each row of an embedding table is looked up: counted in calibration data and smoothed, because
// even much text leaves most of a vocabulary unseen.

#include <string>
#include <vector>

#include "lib/pipeline/pass.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// Probability of each row. Vocabularies list frequent tokens first, more or less, so rows of similar rank
/// are used similarly often: with pᵢ the mean count of rows i/ρ … i·ρ,
///     uᵢ ∝ countᵢ + m · pᵢ / Σp,
/// ρ and m chosen by the likelihood of `heldBack` counts under `counts`; the result is made from both. ρ may
/// be so large that rank plays no role.
std::vector<double> smoothedUsage(const std::vector<double>& counts, const std::vector<double>& heldBack);

/// That of a table from the calibration samples that were given, a quarter of them held back; padding does not
/// count. Without calibration data all rows count alike, and the report says so.
std::vector<double> tableUsage(const ir::Model& model, const pipeline::PassContext& context,
                               const std::string& pass, const TargetWeight& weight,
                               pipeline::PassReport& report);

}  // namespace tcompress::passes
