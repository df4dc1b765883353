#pragma once
// How often each row of an embedding table is looked up: counted in calibration data and smoothed, because
// even much text leaves most of a vocabulary unseen.

#include <span>
#include <string>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/pipeline/pass.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {

/// Probability of each row. Rows that were seen once or twice are used less often than it seems, by about a constant
/// δ, and what is taken from them goes to rows like them (absolute discounting):
///     uᵢ ∝ countᵢ − min(countᵢ, δ) + pᵢ · Σ min(count, δ) / Σ p.
/// Vocabularies list frequent tokens first, more or less, so rows of similar rank are used similarly often: pᵢ is the
/// mean of min(count, δ) over rows i/ρ … i·ρ. Vectors of rare tokens are longer than others in many tables: pᵢ may be
/// multiplied with how much more is seen of rows of its length (eight classes) at similar ranks. δ, ρ and whether
/// lengths play a role are chosen by the likelihood of `heldBack` counts under `counts`; the result is made from both.
/// ρ may be so large that rank plays no role. `energies`: squared length of each row.
///
/// Sources: Ney, Essen and Kneser 1994, "On Structuring Probabilistic Dependences in Stochastic Language Modelling";
/// lengths: Schakel and Wilson 2015, "Measuring Word Significance using Distributed Representations of Words".
std::vector<double> smoothedUsage(const std::vector<double>& counts, const std::vector<double>& heldBack,
                                  std::span<const double> energies);

/// Squared length of each row of a float32 matrix, infinite where it is none.
std::vector<double> rowEnergies(const Tensor& table);

/// Look-ups of each row in the samples; padding does not count.
std::vector<double> rowCounts(const ir::Model& model, const pipeline::PassContext& context,
                              const TargetWeight& weight, const data::Dataset& samples);

/// Use of a table's rows in the samples, a quarter of them held back to choose how counts are smoothed.
std::vector<double> tableUsage(const ir::Model& model, const pipeline::PassContext& context,
                               const TargetWeight& weight, const data::Dataset& samples);
/// The same in the calibration samples that were given. Without calibration data all rows count alike, and the
/// report says so.
std::vector<double> tableUsage(const ir::Model& model, const pipeline::PassContext& context,
                               const std::string& pass, const TargetWeight& weight,
                               pipeline::PassReport& report);

}  // namespace tcompress::passes
