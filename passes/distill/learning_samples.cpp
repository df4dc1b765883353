#include "passes/distill/learning_samples.h"

#include <algorithm>

#include "lib/data/enlarge.h"
#include "lib/data/split.h"
#include "passes/support/compensation.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {

LearningSamples learningSamples(const ir::Model& model, const pipeline::PassContext& context, std::string_view pass,
                                std::optional<std::int64_t> enlarge) {
    constexpr const char* kWhy = "it learns to give the original's outputs";
    constexpr std::int64_t kMostJudges = 256;
    const data::Dataset& given = context.givenCalibration(pass, kWhy);
    const data::Split split = data::split(given, kHeldBackShare);
    const data::Dataset& held = allJudgesOf(split);
    const std::int64_t few = std::min(held.sampleCount(), kMostJudges);
    const std::int64_t factor = enlarge.value_or(context.calibration(pass, kWhy).sampleCount() / given.sampleCount());
    LearningSamples samples{split.fit, split.fit.sampleCount(), held.head(few)};
    if (factor == 1) return samples;

    data::Enlargement how{factor, context.random("samples").bits(), data::vocabularies(model), data::imageInputs(model)};
    samples.fit = data::enlarged(split.fit, how);
    how.factor = 1 + (kMostJudges + few - 1) / few;
    const data::Dataset made = data::enlarged(samples.judges, how);
    samples.judges = {made.rows(few, made.sampleCount()), std::nullopt, made.origin()};
    return samples;
}

}  // namespace tcompress::passes
