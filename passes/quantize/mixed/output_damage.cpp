#include "passes/quantize/mixed/output_damage.h"

#include <vector>

#include "lib/calibration/collector.h"
#include "lib/calibration/similarity.h"
#include "lib/support/error.h"

namespace tcompress::passes {
namespace {

using calibration::SimilaritySums;

std::vector<std::size_t> floatOutputs(const ir::Model& model) {
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < model.graph().outputs().size(); ++i) {
        const ir::Value* output = model.graph().outputs()[i];
        if (isFloatingPoint(output->dtype()) && output->producer() != nullptr) places.push_back(i);
    }
    return places;
}

}  // namespace

void requireFloatOutput(const ir::Model& model) {
    if (floatOutputs(model).empty())
        throw PassError("the model has no floating-point output to compare");
}

double outputDamage(const ir::Model& original, const ir::Model& edited, const data::Dataset& samples,
                    const calibration::Resources& resources) {
    requireFloatOutput(original);
    calibration::Collector collector(original, edited);
    std::vector<const SimilaritySums*> sums;
    for (const std::size_t i : floatOutputs(original))
        sums.push_back(&collector.add<SimilaritySums>(
            calibration::Source(original.graph().outputs()[i], calibration::Side::original),
            calibration::Source(edited.graph().outputs()[i])));
    collector.run(samples, silentProgress(), resources);
    double sum = 0;
    for (const SimilaritySums* output : sums) sum += output->result().relativeError();
    return sum / static_cast<double>(sums.size());
}

}  // namespace tcompress::passes
