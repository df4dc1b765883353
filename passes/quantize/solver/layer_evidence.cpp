#include "passes/quantize/solver/layer_evidence.h"

#include <algorithm>
#include <optional>

#include "lib/support/check.h"
#include "passes/support/evidence.h"

namespace tcompress::passes {
namespace {

using calibration::Moments;
using calibration::Side;
using calibration::Source;

const ir::Value* counterpart(const ir::Model& model, const ir::Value* value) {
    const ir::Value* found = model.graph().find(value->name());
    TCOMPRESS_CHECK(found != nullptr, "the edited model has lost a value");
    return found;
}

/// The one site that multiplies with the weight as it is; null when there is none.
const analysis::Site* plainSite(const TargetWeight& weight) {
    if (weight.sites.size() != 1) return nullptr;
    const analysis::Site& site = *weight.sites.front();
    const ir::Node& node = *site.node;
    const bool plainGemm = node.is("Gemm") && node.attributeFloat("alpha", 1) == 1 &&
                           node.attributeFloat("beta", 1) == 1 && node.attributeInt("transA", 0) == 0;
    const bool plain = (node.is("MatMul") || plainGemm) && site.input == node.input(0);
    return plain ? &site : nullptr;
}

/// Whether the values have one last axis: of the products that a layer's last matrix became, the first does not make the stream.
bool haveOneAxis(const analysis::ModelAxes& axes, const ir::Value* a, const ir::Value* b) {
    const auto *left = axes.of(a), *right = axes.of(b);
    return left != nullptr && right != nullptr && !left->empty() && !right->empty() &&
           axes.store->resolve(left->back()) == axes.store->resolve(right->back());
}

/// The residual stream that the site's output is added to; null when it is none of its last layers.
const ir::Value* residualBeside(const analysis::TransformerView& view, const analysis::Site& site) {
    const auto isSite = [&](std::size_t index) { return &view.sites[index] == &site; };
    const auto streamOf = [&](const auto& layer, const std::vector<std::size_t>& last) {
        const bool found = last.size() == 1 && isSite(last.front()) && layer.residualAdd != nullptr;
        return found && haveOneAxis(*view.axes, site.output, layer.input) ? layer.input : nullptr;
    };
    for (const analysis::AttentionLayer& layer : view.attention)
        if (const ir::Value* stream = streamOf(layer, layer.o)) return stream;
    for (const analysis::FeedForward& layer : view.feedForward)
        if (const ir::Value* stream = streamOf(layer, layer.down)) return stream;
    return nullptr;
}

/// The constant inside the node: Gemm's third operand, as its outputs hold it.
std::vector<float> constantInside(const TargetWeight& weight) {
    const analysis::Site* site = plainSite(weight);
    if (site == nullptr || site->biasNode != nullptr || site->bias == nullptr) return {};
    return toFloat32(*site->bias->constant());
}

/// The target without a constant that was added to it.
void subtract(const std::vector<float>& constant, std::size_t target, Moments& moments) {
    if (moments.rows == 0) return;
    Moments::Cross& cross = moments.targets[target];
    const auto rows = static_cast<double>(moments.rows);
    const auto outputs = static_cast<std::size_t>(cross.outputs);
    for (std::size_t c = 0; c < outputs; ++c) {
        const double value = constant.size() == 1 ? constant[0] : constant[c];
        cross.squares[c] += value * (rows * value - 2 * cross.sum[c]);
        cross.sum[c] -= rows * value;
        for (std::size_t i = 0; i < moments.sum.size(); ++i)
            cross.product[i * outputs + c] -= moments.sum[i] * value;
    }
}

bool isConstantFor(const std::vector<float>& constant, const TargetWeight& weight) {
    const auto outputs = static_cast<std::size_t>(weight.constant->constant()->shape()[weight.outAxis]);
    return constant.size() == 1 || constant.size() == outputs;
}

}  // namespace

bool multipliesRows(const TargetWeight& weight) {
    if (weight.hasEmbedding() || weight.constant->constant()->rank() != 2) return false;
    return std::all_of(weight.sites.begin(), weight.sites.end(), [](const analysis::Site* site) {
        return site->input == site->node->input(0) && site->node->attributeInt("transA", 0) == 0;
    });
}

std::vector<LayerStage> stagesOf(const std::vector<const TargetWeight*>& weights) {
    std::vector<LayerStage> stages;
    for (const TargetWeight* weight : weights) {
        std::vector<const ir::Value*> inputs;
        for (const analysis::Site* site : weight->sites)
            if (std::find(inputs.begin(), inputs.end(), site->input) == inputs.end())
                inputs.push_back(site->input);
        const auto same = std::find_if(stages.begin(), stages.end(),
                                       [&](const LayerStage& stage) { return stage.inputs == inputs; });
        if (same != stages.end())
            same->weights.push_back(weight);
        else
            stages.push_back({std::move(inputs), {weight}});
    }
    return stages;
}

calibration::SplitMoments LayerEvidence::of(std::size_t i) const {
    const auto part = [&](const Moments& all) {
        Moments own;
        own.rows = all.rows;
        own.inputs = all.inputs;
        own.sum = all.sum;
        own.gram = all.gram;
        if (all.rows > 0)
            for (const std::size_t target : targets[i]) own.targets.push_back(all.targets[target]);
        return own;
    };
    return {part(moments.fit), part(moments.heldBack)};
}

EvidenceStreams::EvidenceStreams(const analysis::TransformerView& view, const ir::Model& original,
                                 const ir::Model& edited, const data::Split& split,
                                 const pipeline::PassContext& context)
    : view_(view),
      original_(original),
      edited_(edited),
      context_(context),
      fit_(context.stream(original, edited, split.fit)),
      heldBack_(context.stream(original, edited, split.heldBack)) {}

std::vector<calibration::Target> EvidenceStreams::targetsOf(const TargetWeight& weight) const {
    const analysis::Site* site = plainSite(weight);
    const ir::Value* output = site == nullptr ? nullptr : alike(original_, site->output);
    if (output == nullptr) return {};
    std::vector<calibration::Target> targets{{{1, {output, Side::original}}}};
    const ir::Value* stream = residualBeside(view_, *site);
    const ir::Value* before = stream == nullptr ? nullptr : alike(original_, stream);
    if (before != nullptr)
        targets.push_back({{1, {output, Side::original}},
                           {1, {before, Side::original}},
                           {-1, {counterpart(edited_, stream), Side::edited}}});
    return targets;
}

void EvidenceStreams::advanceTo(const LayerStage& stage) {
    const int block = stage.weights.front()->sites.front()->block;
    if (block <= block_) return;
    const ir::Value* input = view_.blocks[static_cast<std::size_t>(block)].input;
    const ir::Value* before = input == nullptr ? nullptr : alike(original_, input);
    if (before == nullptr || input->producer() == nullptr) return;
    block_ = block;
    const calibration::Cut cut{{counterpart(edited_, input)}, {before}};
    fit_.moveTo(cut);
    heldBack_.moveTo(cut);
}

std::vector<LayerEvidence> EvidenceStreams::collect(const std::vector<LayerStage>& stages, Targets targets) {
    std::vector<LayerEvidence> result(stages.size());
    std::vector<calibration::MomentsRequest> requests;
    std::vector<std::size_t> stageOf;
    for (std::size_t stage = 0; stage < stages.size(); ++stage) {
        std::vector<calibration::Target> asked;
        for (const TargetWeight* weight : stages[stage].weights) {
            std::vector<std::size_t>& places = result[stage].targets.emplace_back();
            if (targets == Targets::none) continue;
            const std::vector<float> constant = constantInside(*weight);
            if (!constant.empty() && !isConstantFor(constant, *weight)) continue;
            for (calibration::Target& target : targetsOf(*weight)) {
                places.push_back(asked.size());
                asked.push_back(std::move(target));
            }
        }
        for (const ir::Value* input : stages[stage].inputs) {
            requests.push_back({counterpart(edited_, input), asked});
            stageOf.push_back(stage);
        }
    }
    const auto gather = [&](calibration::Stream& stream, Moments calibration::SplitMoments::* part) {
        const std::vector<Moments> moments =
            calibration::collectMoments(stream, requests, context_.progress());
        for (std::size_t i = 0; i < requests.size(); ++i) result[stageOf[i]].moments.*part += moments[i];
        for (std::size_t stage = 0; stage < stages.size(); ++stage)
            for (std::size_t w = 0; w < stages[stage].weights.size(); ++w)
                if (const auto constant = constantInside(*stages[stage].weights[w]); !constant.empty())
                    for (const std::size_t target : result[stage].targets[w])
                        subtract(constant, target, result[stage].moments.*part);
    };
    gather(fit_, &calibration::SplitMoments::fit);
    gather(heldBack_, &calibration::SplitMoments::heldBack);
    return result;
}

std::optional<LayerBias> biasBehind(const TargetWeight& weight) {
    const analysis::Site* site = plainSite(weight);
    if (site == nullptr || site->bias == nullptr) return std::nullopt;
    const Tensor* constant = site->bias->constant();
    if (constant == nullptr || constant->dtype() != DType::float32 || constant->size() != site->outFeatures ||
        site->bias->uses().size() != 1 || site->bias->uses().front().kind != ir::UseKind::input)
        return std::nullopt;
    return LayerBias{site->bias, *constant};
}

void LayerBias::add(const std::vector<float>& change) {
    const auto values = changed.mutableData<float>();
    TCOMPRESS_CHECK(values.size() == change.size(), "the bias and its change have different sizes");
    for (std::size_t i = 0; i < change.size(); ++i) values[i] += change[i];
}

void LayerBias::scale(const std::vector<float>& factors) {
    const auto values = changed.mutableData<float>();
    TCOMPRESS_CHECK(factors.empty() || values.size() == factors.size(), "the bias and its factors have different sizes");
    for (std::size_t i = 0; i < factors.size(); ++i) values[i] *= factors[i];
}

}  // namespace tcompress::passes
