#pragma once
// Accuracy that an edit costs, on calibration samples that are held back for that: what max_accuracy_drop limits.

#include <string_view>

#include "lib/data/split.h"
#include "lib/pipeline/pass.h"

namespace tcompress::passes {

/// Share of the samples that an accuracy is measured on.
inline constexpr double kJudgingShare = 0.5;

/// The calibration samples with kJudgingShare of them held back. PassError when they have no labels; `instead` says what
/// may be given in place of max_accuracy_drop.
data::Split judgingSplit(const pipeline::PassContext& context, std::string_view pass, std::string_view why,
                         std::string_view instead);

/// Accuracy of `model` less that of `edited`. PassError when the labels fit no output.
double accuracyDrop(const ir::Model& model, const ir::Model& edited, const data::Dataset& samples, std::string_view pass);

}  // namespace tcompress::passes
