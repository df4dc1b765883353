#pragma once
// How often each row of an embedding table is looked up: counted in calibration data and smoothed, because
// even much text leaves most of a vocabulary unseen.

#include <vector>

namespace tcompress::passes {

/// Probability of each row. Vocabularies list frequent tokens first, more or less, so rows of similar rank
/// are used similarly often: with pᵢ the mean count of rows i/ρ … i·ρ,
///     uᵢ ∝ countᵢ + m · pᵢ / Σp,
/// ρ and m chosen by the likelihood of `heldBack` counts under `counts`; the result is made from both. ρ may
/// be so large that rank plays no role.
std::vector<double> smoothedUsage(const std::vector<double>& counts, const std::vector<double>& heldBack);

}  // namespace tcompress::passes
