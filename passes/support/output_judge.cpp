#include "passes/support/output_judge.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/calibration/observed_rows.h"
#include "lib/exec/executor.h"
#include "lib/support/error.h"
#include "passes/support/evidence.h"
#include "passes/support/layer_runs.h"

namespace tcompress::passes {

using calibration::Side;

data::Split samplesToPlanBy(const data::Split& samples) {
    constexpr std::int64_t kFitted = 384, kHeld = 128;
    return {samples.fit.head(kFitted), samples.heldBack.head(kHeld)};
}

const data::Dataset& allJudgesOf(const data::Split& samples) {
    return samples.heldBack.sampleCount() > 0 ? samples.heldBack : samples.fit;
}

data::Dataset judgesOf(const data::Split& samples) {
    constexpr std::int64_t kJudges = 64;
    return allJudgesOf(samples).head(kJudges);
}

std::vector<std::string> floatOutputs(const ir::Model& model) {
    std::vector<std::string> names = comparableOutputs(model.graph(), {});
    if (names.empty()) throw PassError("the model has no floating-point output to compare");
    return names;
}

OutputJudge::OutputJudge(const ir::Model& original, std::vector<std::string> outputs, const data::Dataset& samples,
                         const pipeline::PassContext& context)
    : names_(std::move(outputs)),
      context_(context),
      stream_(context.stream(original, samples)),
      store_(std::min(context.resources().memoryLimitBytes, kMemoryForRows)) {
    std::vector<const ir::Value*> values;
    for (const std::string& name : names_) values.push_back(original.graph().find(name));
    exec::Executor executor(original, {.outputs = std::move(values)});
    bool anyValues = false, anyFinite = false;
    for (std::size_t i = 0; i < stream_.batchCount(); ++i) {
        const exec::Feeds feeds = stream_.feeds(Side::edited, i);
        Batch& batch = batches_.emplace_back();
        batch.mask = calibration::TokenMask(feeds);
        for (const Tensor& tensor : executor.run(feeds)) {
            const calibration::ObservedRows seen(tensor, batch.mask);
            const calibration::Rows rows = seen.rows();
            anyValues = anyValues || !rows.values.empty();
            anyFinite = anyFinite || std::any_of(rows.values.begin(), rows.values.end(),
                                                 [](float value) { return std::isfinite(value); });
            batch.outputs.push_back(store_.add(Tensor::of<float>({rows.rows, rows.channels}, rows.values)));
        }
        context_.progress().step(0);
    }
    if (anyValues && !anyFinite)
        throw DataError(
            "the model's outputs on these samples are NaN or infinite throughout, so that nothing can be compared "
            "with them: look for NaN in the data (tcompress eval --dump-outputs writes what the model gives)");
}

void OutputJudge::advanceTo(const ir::Value* value) {
    if (value == nullptr || value->producer() == nullptr) return;
    context_.advance(stream_, {.edited = {value}});
}

double OutputJudge::error(const ir::Model& edited) const {
    struct Sum {
        double difference = 0, original = 0;
    };
    std::vector<const ir::Value*> values, cut;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < names_.size(); ++i)
        if (const ir::Value* value = edited.graph().find(names_[i]); value != nullptr && value->producer() != nullptr) {
            values.push_back(value);
            places.push_back(i);
        }
    if (values.empty()) return 0;
    for (const ir::Value* value : stream_.cut(Side::edited)) cut.push_back(edited.graph().find(value->name()));
    exec::Executor executor(edited, {.inputs = std::move(cut), .outputs = values});
    std::vector<Sum> sums(values.size());
    for (std::size_t b = 0; b < batches_.size(); ++b) {
        const std::vector<Tensor> outputs = executor.run(feedsLeft(edited, stream_.feeds(Side::edited, b)));
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            const calibration::ObservedRows now(outputs[i], batches_[b].mask);
            const Tensor kept = store_.get(batches_[b].outputs[places[i]]);
            const auto before = kept.data<float>(), after = now.rows().values;
            for (std::size_t k = 0; k < std::min(before.size(), after.size()); ++k) {
                if (!std::isfinite(before[k])) continue;
                const double difference = static_cast<double>(before[k]) - after[k];
                sums[i].difference += difference * difference;
                sums[i].original += static_cast<double>(before[k]) * before[k];
            }
        }
        context_.progress().step(0);
    }
    double error = 0;
    for (const Sum& sum : sums) error += sum.original > 0 ? sum.difference / sum.original : sum.difference;
    // A model that overflows must not be taken for one without error: nothing is greater than NaN.
    return std::isfinite(error) ? error / static_cast<double>(sums.size()) : std::numeric_limits<double>::infinity();
}

}  // namespace tcompress::passes
