#include "passes/support/accuracy_drop.h"

#include <fmt/core.h>

#include "lib/measure/evaluate.h"
#include "lib/support/error.h"

namespace tcompress::passes {

data::Split judgingSplit(const pipeline::PassContext& context, std::string_view pass, std::string_view why,
                         std::string_view instead) {
    const data::Dataset& given = context.givenCalibration(pass, "max_accuracy_drop is measured on held-back samples");
    if (!given.labels())
        throw PassError(fmt::format("{}: {} holds no labels, and max_accuracy_drop needs them; add an array 'labels', or give "
                                    "{} instead",
                                    pass, given.origin(), instead));
    return context.calibrationSplit(pass, why, kJudgingShare);
}

double accuracyDrop(const ir::Model& model, const ir::Model& edited, const data::Dataset& samples, std::string_view pass) {
    measure::EvaluateOptions options;
    options.latency = false;
    options.energy = measure::EnergyMethod::none;
    const auto drop = measure::accuracyDrop(measure::evaluate(model, &edited, &samples, options));
    if (!drop)
        throw PassError(fmt::format("{}: the labels of {} fit no output of the model, so there is no accuracy to keep", pass,
                                    samples.origin()));
    return *drop;
}

}  // namespace tcompress::passes
