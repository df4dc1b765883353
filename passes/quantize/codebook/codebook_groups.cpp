#include "passes/quantize/codebook/codebook_groups.h"

#include <algorithm>

#include "lib/calibration/tensor_store.h"
#include "passes/quantize/codebook/codebook_fit.h"
#include "passes/quantize/codebook/shared_codebook.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "passes/quantize/solver/layer_judge.h"
#include "passes/support/evidence.h"
#include "passes/support/layer_weights.h"

namespace tcompress::passes {
namespace {

/// Added to the diagonal of second moments where no damping is given, as a share of its mean.
constexpr double kUsualDamp = 0.1;

std::string groupName(const TargetWeight& weight, CodebookSharing sharing) {
    return sharing == CodebookSharing::role ? std::string(analysis::name(weight.sites.front()->role)) : "shared";
}

SharedLayer sharedLayer(const TargetWeight& weight) {
    const Shape& shape = weight.constant->constant()->shape();
    SharedLayer layer;
    layer.inputs = shape[weight.inAxis];
    layer.channels = shape[weight.outAxis];
    layer.weights = [&weight] {
        const Tensor& tensor = *weight.constant->constant();
        const auto values = tensor.data<float>();
        return weight.inAxis == 0 ? std::vector<float>(values.begin(), values.end())
                                  : transposed(values, tensor.shape()[0], tensor.shape()[1]);
    };
    return layer;
}

/// XᵀX of n inputs, about the mean where a bias takes that up: a multiple of it whose diagonal has a mean of 1, and the
/// damping. The identity where only zeros or nothing was seen.
Tensor dampedMoment(const calibration::Moments& moments, std::int64_t n, BiasFit bias, double damp) {
    const auto diagonal = [n](std::int64_t i) { return static_cast<std::size_t>(i * n + i); };
    std::vector<float> values(static_cast<std::size_t>(n * n), 0.0F);
    double mean = 0;
    if (moments.rows > 0) {
        const std::vector<double> gram = bias == BiasFit::fitted ? centredGram(moments) : moments.gram;
        for (std::int64_t i = 0; i < n; ++i) mean += gram[diagonal(i)] / static_cast<double>(n);
        if (mean > 0)
            std::transform(gram.begin(), gram.end(), values.begin(),
                           [mean](double value) { return static_cast<float>(value / mean); });
    }
    for (std::int64_t i = 0; i < n; ++i) values[diagonal(i)] += static_cast<float>(mean > 0 ? damp : 1);
    return Tensor::of<float>({n, n}, std::span<const float>(values));
}

/// Second moments of what weights are multiplied with, one a weight; they wait in a temporary file where they are many.
class InputMoments {
  public:
    InputMoments(std::vector<const TargetWeight*> weights, const ir::Model& model,
                 const analysis::TransformerView& view, const data::Dataset& samples, double damp,
                 const pipeline::PassContext& context)
        : store_(kMemoryForRows) {
        std::stable_sort(weights.begin(), weights.end(), [](const TargetWeight* a, const TargetWeight* b) {
            return a->sites.front()->block < b->sites.front()->block;
        });
        EvidenceStreams streams(view, model, model, data::split(samples, 0), context);
        for (const LayerStage& stage : stagesOf(weights)) {
            streams.advanceTo(stage);
            const calibration::Moments moments = streams.collect({stage}, Targets::none).front().moments.fit;
            std::map<BiasFit, calibration::TensorStore::Slot> slots;
            for (const TargetWeight* weight : stage.weights) {
                const BiasFit bias = biasFit(*weight->sites.front());
                const std::int64_t inputs = weight->constant->constant()->shape()[weight->inAxis];
                if (!slots.contains(bias)) slots.emplace(bias, store_.add(dampedMoment(moments, inputs, bias, damp)));
                slots_.emplace(weight, slots.at(bias));
            }
        }
    }

    std::vector<double> of(const TargetWeight* weight) const {
        const Tensor tensor = store_.get(slots_.at(weight));
        const auto values = tensor.data<float>();
        return {values.begin(), values.end()};
    }

  private:
    calibration::TensorStore store_;
    std::map<const TargetWeight*, calibration::TensorStore::Slot> slots_;
};

}  // namespace

std::vector<CodebookGroup> codebookGroups(const std::vector<const TargetWeight*>& weights, CodebookSharing sharing) {
    std::vector<CodebookGroup> groups;
    for (const TargetWeight* weight : weights) {
        const std::string name = groupName(*weight, sharing);
        const auto same = std::find_if(groups.begin(), groups.end(),
                                       [&](const CodebookGroup& group) { return group.name == name; });
        if (sharing == CodebookSharing::none || same == groups.end())
            groups.push_back({name, {weight}});
        else
            same->weights.push_back(weight);
    }
    return groups;
}

std::vector<CodebookMatrix> codedTogether(const CodebookGroup& group, const CodebookOptions& options, Random random) {
    std::vector<SharedLayer> layers;
    for (const TargetWeight* weight : group.weights) layers.push_back(sharedLayer(*weight));
    return withSharedVectors(layers, options.vectorShape(), 0, random);
}

std::map<const TargetWeight*, CodebookMatrix> codedTogether(const std::vector<CodebookGroup>& groups,
                                                            const CodebookOptions& options, const ir::Model& model,
                                                            const analysis::TransformerView& view,
                                                            const data::Dataset& samples,
                                                            const pipeline::PassContext& context) {
    std::map<const TargetWeight*, CodebookMatrix> result;
    std::vector<const TargetWeight*> sharing;
    for (const CodebookGroup& group : groups)
        if (group.isShared()) sharing.insert(sharing.end(), group.weights.begin(), group.weights.end());
    if (sharing.empty()) return result;
    const InputMoments moments(sharing, model, view, samples, options.damp.value_or(kUsualDamp), context);
    for (const CodebookGroup& group : groups) {
        if (!group.isShared()) continue;
        std::vector<SharedLayer> layers;
        for (const TargetWeight* weight : group.weights) {
            layers.push_back(sharedLayer(*weight));
            layers.back().secondMoment = [&moments, weight] { return moments.of(weight); };
        }
        std::vector<CodebookMatrix> codes = withSharedVectors(layers, options.vectorShape(),
                                                              options.errorFeedback ? options.refine : 0,
                                                              context.random(group.name));
        for (std::size_t i = 0; i < codes.size(); ++i) result.emplace(group.weights[i], std::move(codes[i]));
    }
    return result;
}

}  // namespace tcompress::passes
