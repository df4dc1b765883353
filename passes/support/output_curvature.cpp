#include "passes/support/output_curvature.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>

#include "lib/calibration/batches.h"
#include "lib/calibration/moments.h"
#include "lib/calibration/observed_rows.h"
#include "lib/support/error.h"
#include "lib/support/random.h"
#include "lib/train/gradient.h"
#include "passes/support/evidence.h"
#include "passes/support/layer_runs.h"

namespace tcompress::passes {
namespace {

using calibration::ObservedRows;
using calibration::TensorStore;
using calibration::TokenMask;

/// Enough to know the directions that matter.
constexpr std::int64_t kSamples = 512;
/// All values of a forward run stay until its gradients are there: small batches keep them few.
constexpr std::int64_t kBatchShare = 4;
/// Of the mean of the diagonal: directions that the samples' gradients do not have matter a little, too. Measured in
/// docs/compensation.md.
constexpr double kDamping = 0.1;

/// √Σy² of what counts.
double normOf(const Tensor& output, const TokenMask& mask) {
    const ObservedRows seen(output, mask);
    double squares = 0;
    for (const float value : seen.rows().values)
        if (std::isfinite(value)) squares += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(squares);
}

/// Some operators (of weights packed in blocks) run only within a plan that fuses what they read.
std::optional<train::SeenValues> valuesSeen(const ir::Model& model, const exec::Feeds& feeds, std::string& refusal) {
    try {
        return train::seenValues(model, feeds);
    } catch (const KernelError& error) {
        const std::string text = error.what();
        refusal = text.substr(0, text.find('\n'));
        return std::nullopt;
    }
}

/// The second moments of the gradients by a weight's outputs.
struct GradientSums {
    const TargetWeight* weight;
    std::vector<const ir::Value*> gradients;  ///< at its sites
    calibration::MomentSums moments;

    std::uint64_t sizeBytes() const {
        const auto outputs = static_cast<std::uint64_t>(weight->sites.front()->outFeatures);
        return outputs * outputs * sizeof(double);
    }
};

/// Runs of a model and its gradients over samples, from random signs over the size that outputs have on the first of them.
class GradientRuns {
  public:
    /// Runs the model up to its outputs: before any gradient, so that weights are not packed for both at once.
    GradientRuns(const train::GradientModel& backward, const std::vector<std::string>& outputs, const data::Dataset& samples,
                 std::int64_t batchSize, const pipeline::PassContext& context)
        : model_(backward.model), samples_(samples), context_(context), outputs_(kMemoryForRows) {
        std::vector<const ir::Value*> values;
        for (const std::string& name : outputs)
            if (const auto cotangent = backward.cotangents.find(name); cotangent != backward.cotangents.end()) {
                values.push_back(model_.graph().find(name));
                cotangents_.push_back(model_.graph().find(cotangent->second));
            }
        exec::Executor forward(model_, {.outputs = values});
        for (std::int64_t begin = 0; begin < samples.sampleCount(); begin += batchSize) {
            Batch& batch = batches_.emplace_back(Batch{begin, std::min(samples.sampleCount(), begin + batchSize), {}});
            const exec::Feeds feeds = samples.rows(batch.begin, batch.end);
            for (const Tensor& output : forward.run(feeds)) {
                if (norms_.size() < values.size()) norms_.push_back(normOf(output, TokenMask(feeds)));
                batch.outputs.push_back(outputs_.add(output));
            }
            context.progress().step(0);
        }
    }

    void addTo(std::span<GradientSums> sums) const {
        std::vector<const ir::Value*> gradients;
        for (const GradientSums& sum : sums) gradients.insert(gradients.end(), sum.gradients.begin(), sum.gradients.end());
        exec::Executor executor(model_, {.inputs = cotangents_, .outputs = gradients});
        Random random = context_.random("curvature");
        context_.progress().begin("gradients", samples_.sampleCount());
        for (const Batch& batch : batches_) {
            exec::Feeds feeds = samples_.rows(batch.begin, batch.end);
            const TokenMask mask(feeds);
            for (std::size_t i = 0; i < cotangents_.size(); ++i)
                feeds[cotangents_[i]->name()] = signs(outputs_.get(batch.outputs[i]), mask, norms_[i] > 0 ? 1 / norms_[i] : 1.0, random);
            const std::vector<Tensor> found = executor.run(feeds);
            auto next = found.begin();
            for (GradientSums& sum : sums)
                for (std::size_t site = 0; site < sum.gradients.size(); ++site) {
                    const ObservedRows rows(*next++, mask);
                    const std::array<calibration::Rows, 1> source = {rows.rows()};
                    sum.moments.add(source);
                }
            context_.progress().step(batch.end - batch.begin);
        }
        context_.progress().end();
    }

  private:
    struct Batch {
        std::int64_t begin, end;
        std::vector<TensorStore::Slot> outputs;
    };

    /// 0 at padding and where the output is not finite.
    static Tensor signs(const Tensor& output, const TokenMask& mask, double scale, Random& random) {
        Tensor signs(DType::float32, output.shape());
        const auto values = output.data<float>();
        const std::span<float> made = signs.mutableData<float>();
        const std::vector<bool> counts = mask.rowsOf(output.shape());
        const std::size_t channels = counts.empty() ? 1 : made.size() / counts.size();
        for (std::size_t i = 0; i < made.size(); ++i) {
            const bool isPositive = (random.bits() >> 63) != 0;
            const bool isSeen = (counts.empty() || counts[i / channels]) && std::isfinite(values[i]);
            made[i] = isSeen ? static_cast<float>(isPositive ? scale : -scale) : 0.0F;
        }
        return signs;
    }

    const ir::Model& model_;
    const data::Dataset& samples_;
    const pipeline::PassContext& context_;
    std::vector<const ir::Value*> cotangents_;
    TensorStore outputs_;
    std::vector<Batch> batches_;
    std::vector<double> norms_;
};

}  // namespace

OutputCurvature::OutputCurvature(const ir::Model& model, const analysis::TransformerView& view,
                                 const std::vector<const TargetWeight*>& weights, const data::Dataset& samples,
                                 const pipeline::PassContext& context)
    : sums_(kMemoryForRows) {
    const data::Dataset first = data::fitToModel(samples.head(kSamples), model);
    const std::int64_t whole = calibration::batchSize(first, model), fixed = data::fixedBatchSize(model);
    // Two at least: a single sample does not show along which axes operands are repeated.
    const std::int64_t step = fixed > 0 ? fixed : std::clamp<std::int64_t>(whole / kBatchShare, 2, std::max<std::int64_t>(2, first.sampleCount()));
    std::vector<std::string> outputs = comparableOutputs(model.graph(), layerSpans(view, LayerPart::block)), of;
    for (const TargetWeight* weight : weights)
        for (const analysis::Site* site : weight->sites) of.push_back(site->output->name());
    if (of.empty()) return;
    if (outputs.empty()) refusal_ = "the model has no floating-point output";
    if (first.sampleCount() < step) refusal_ = fmt::format("{} samples are needed, and {} is there to fit to", step, first.sampleCount());
    if (!refusal_.empty()) return;
    // Whole batches, since sizes that nodes are given may hold their number of samples.
    const data::Dataset used = first.head(first.sampleCount() / step * step);
    const std::optional<train::SeenValues> seen = valuesSeen(model, used.rows(0, step), refusal_);
    if (seen) refusal_ = train::whyNoGradients(model, outputs, of, *seen);
    if (!refusal_.empty()) return;
    const train::GradientModel backward = train::withGradients(model, outputs, of, *seen);
    std::vector<GradientSums> sums;
    for (const TargetWeight* weight : weights) {
        std::vector<const ir::Value*> gradients;
        for (const analysis::Site* site : weight->sites)
            if (const auto found = backward.gradients.find(site->output->name()); found != backward.gradients.end())
                gradients.push_back(backward.model.graph().find(found->second));
        if (!gradients.empty()) sums.push_back({weight, gradients, calibration::MomentSums({gradients.front()})});
    }
    const GradientRuns runs(backward, outputs, used, step, context);
    // As many sums at once as there is memory for; the others take another run.
    for (std::size_t begin = 0, end = 0; begin < sums.size(); begin = end) {
        std::uint64_t bytes = 0;
        do bytes += sums[end++].sizeBytes();
        while (end < sums.size() && bytes + sums[end].sizeBytes() <= context.resources().memoryLimitBytes);
        const std::span<GradientSums> some = std::span(sums).subspan(begin, end - begin);
        runs.addTo(some);
        for (GradientSums& sum : some) {
            const std::vector<double> gram = sum.moments.take().gram;
            Tensor narrow(DType::float32, {std::ssize(gram)});
            std::copy(gram.begin(), gram.end(), narrow.mutableData<float>().begin());
            slots_[sum.weight->constant->name()] = sums_.add(narrow);
        }
    }
}

void OutputCurvature::noteRefusal(pipeline::PassReport& report) const {
    if (refusal_.empty()) return;
    report.notes.push_back(fmt::format("errors count by layers, not by the model's outputs: {}", refusal_));
}

std::vector<double> OutputCurvature::of(const TargetWeight& weight) const {
    const auto found = slots_.find(weight.constant->name());
    if (found == slots_.end()) return {};
    const Tensor sums = sums_.get(found->second);
    const std::span<const float> values = sums.data<float>();
    std::vector<double> metric(values.begin(), values.end());
    const auto outputs = static_cast<std::size_t>(std::llround(std::sqrt(static_cast<double>(metric.size()))));
    double trace = 0;
    for (std::size_t i = 0; i < outputs; ++i) trace += metric[i * outputs + i];
    if (!(trace > 0) || !std::isfinite(trace)) return {};
    for (double& value : metric) value *= static_cast<double>(outputs) / trace;
    for (std::size_t i = 0; i < outputs; ++i) metric[i * outputs + i] += kDamping;
    return metric;
}

}  // namespace tcompress::passes
