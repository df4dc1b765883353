#include "passes/support/output_curvature.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

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

/// Random signs over the size that an output has on the first samples; 0 at padding and where the output is not finite.
class Cotangents {
  public:
    explicit Cotangents(Random random) : random_(random) {}

    Tensor of(const Tensor& output, const TokenMask& mask, double scale) {
        Tensor signs(DType::float32, output.shape());
        const auto values = output.data<float>();
        const std::span<float> made = signs.mutableData<float>();
        const std::vector<bool> counts = mask.rowsOf(output.shape());
        const std::size_t channels = counts.empty() ? 1 : made.size() / counts.size();
        for (std::size_t i = 0; i < made.size(); ++i) {
            const bool isPositive = (random_.bits() >> 63) != 0;
            const bool isSeen = (counts.empty() || counts[i / channels]) && std::isfinite(values[i]);
            made[i] = isSeen ? static_cast<float>(isPositive ? scale : -scale) : 0.0F;
        }
        return signs;
    }

  private:
    Random random_;
};

/// √Σy² of what counts.
double normOf(const Tensor& output, const TokenMask& mask) {
    const ObservedRows seen(output, mask);
    double squares = 0;
    for (const float value : seen.rows().values)
        if (std::isfinite(value)) squares += static_cast<double>(value) * static_cast<double>(value);
    return std::sqrt(squares);
}

}  // namespace

OutputCurvature::OutputCurvature(const ir::Model& model, const analysis::TransformerView& view,
                                 const std::vector<const TargetWeight*>& weights, const data::Dataset& samples,
                                 const pipeline::PassContext& context)
    : sums_(kMemoryForRows) {
    const data::Dataset used = samples.head(kSamples);
    const std::int64_t whole = calibration::batchSize(used, model), fixed = data::fixedBatchSize(model);
    const std::int64_t step = fixed > 0 ? fixed : std::max<std::int64_t>(2, whole / kBatchShare);
    std::vector<std::string> outputs = comparableOutputs(model.graph(), layerSpans(view, LayerPart::block)), of;
    for (const TargetWeight* weight : weights)
        for (const analysis::Site* site : weight->sites) of.push_back(site->output->name());
    if (used.sampleCount() < step || outputs.empty()) {
        refusal_ = "too few samples, or no floating-point output";
        return;
    }
    const train::SeenValues seen = train::seenValues(model, used.rows(0, step));
    refusal_ = train::whyNoGradients(model, outputs, of, seen);
    if (!refusal_.empty()) return;
    const train::GradientModel backward = train::withGradients(model, outputs, of, seen);
    const ir::Graph& graph = backward.model.graph();

    std::erase_if(outputs, [&](const std::string& name) { return !backward.cotangents.contains(name); });
    std::vector<const ir::Value*> values, cotangents, gradients;
    for (const std::string& name : outputs) {
        values.push_back(graph.find(name));
        cotangents.push_back(graph.find(backward.cotangents.at(name)));
    }
    struct Sum {
        const TargetWeight* weight;
        std::vector<std::size_t> places;  ///< of its sites' gradients
        calibration::MomentSums moments;
    };
    std::vector<Sum> sums;
    for (const TargetWeight* weight : weights) {
        std::vector<std::size_t> places;
        for (const analysis::Site* site : weight->sites)
            if (const auto found = backward.gradients.find(site->output->name()); found != backward.gradients.end()) {
                places.push_back(gradients.size());
                gradients.push_back(graph.find(found->second));
            }
        if (!places.empty()) sums.push_back({weight, places, calibration::MomentSums({gradients[places.front()]})});
    }
    struct Batch {
        std::int64_t begin, end;
        std::vector<TensorStore::Slot> outputs;
    };
    std::vector<Batch> batches;
    TensorStore made(kMemoryForRows);
    std::vector<double> norms;
    context.progress().begin("gradients", used.sampleCount());
    {
        // Of all batches before any gradient: weights are not packed for both at once.
        exec::Executor forward(backward.model, {.outputs = values});
        for (std::int64_t begin = 0; begin + (fixed > 0 ? fixed : 1) <= used.sampleCount(); begin += step) {
            Batch& batch = batches.emplace_back(Batch{begin, std::min(used.sampleCount(), begin + step), {}});
            const exec::Feeds feeds = used.rows(batch.begin, batch.end);
            for (const Tensor& output : forward.run(feeds)) {
                if (norms.size() < values.size()) norms.push_back(normOf(output, TokenMask(feeds)));
                batch.outputs.push_back(made.add(output));
            }
            context.progress().step(0);
        }
    }
    exec::Executor both(backward.model, {.inputs = cotangents, .outputs = gradients});
    Cotangents signs(context.random("curvature"));
    for (const Batch& batch : batches) {
        exec::Feeds feeds = used.rows(batch.begin, batch.end);
        const TokenMask mask(feeds);
        for (std::size_t i = 0; i < cotangents.size(); ++i)
            feeds[cotangents[i]->name()] = signs.of(made.get(batch.outputs[i]), mask, norms[i] > 0 ? 1 / norms[i] : 1.0);
        const std::vector<Tensor> found = both.run(feeds);
        for (Sum& sum : sums)
            for (const std::size_t place : sum.places) {
                const ObservedRows rows(found[place], mask);
                const std::array<calibration::Rows, 1> source = {rows.rows()};
                sum.moments.add(source);
            }
        context.progress().step(batch.end - batch.begin);
    }
    context.progress().end();
    for (Sum& sum : sums) {
        const std::vector<double> gram = sum.moments.take().gram;
        Tensor narrow(DType::float32, {std::ssize(gram)});
        std::copy(gram.begin(), gram.end(), narrow.mutableData<float>().begin());
        slots_[sum.weight->constant->name()] = sums_.add(narrow);
    }
}

void OutputCurvature::noteRefusal(pipeline::PassReport& report) const {
    if (refusal_.empty()) return;
    report.notes.push_back(fmt::format("errors count by layers, not by the model's outputs, whose gradients stop: {}", refusal_));
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
