#include "passes/distill/learnable_constants.h"

#include <algorithm>
#include <set>

namespace tcompress::passes {
namespace {

/// A matrix with a larger share of zeros was pruned.
constexpr double kPrunedShare = 0.01;
/// Shorter vectors are no channels.
constexpr std::int64_t kFewestChannels = 8;

bool isPruned(const Tensor& matrix) {
    const auto values = matrix.data<float>();
    return static_cast<double>(std::count(values.begin(), values.end(), 0.0F)) > kPrunedShare * static_cast<double>(values.size());
}

/// Whether an operator adds this input to a value, or multiplies it, channel by channel.
bool isChannelwise(const ir::Node& node, std::size_t input) {
    if (node.is("Add") || node.is("Mul")) return true;
    if (node.is("Gemm")) return input == 2;
    if (node.is("LayerNormalization") || node.is("RMSNormalization") || node.opType() == "SimplifiedLayerNormalization") return input >= 1;
    if (node.domain() != "com.microsoft") return false;
    if (node.opType() == "BiasGelu" || node.opType() == "FastGelu") return input == 1;
    return node.opType().starts_with("Skip") && input >= 2;
}

bool isProduct(const ir::Node& node) { return node.is("MatMul") || node.is("Gemm") || node.is("com.microsoft", "FusedMatMul"); }

bool isChannelVector(const ir::Value& value) {
    const Tensor* constant = value.constant();
    if (constant == nullptr || constant->dtype() != DType::float32 || constant->rank() != 1 || constant->size() < kFewestChannels) return false;
    const auto& uses = value.uses();
    return !uses.empty() && std::all_of(uses.begin(), uses.end(), [](const ir::Use& use) {
        return use.node != nullptr && isChannelwise(*use.node, use.index);
    });
}

}  // namespace

LearnableConstants learnableConstants(const ir::Model& model, const analysis::TransformerView& view, const WeightQuery& query,
                                      pipeline::PassReport& report) {
    LearnableConstants result;
    std::set<const ir::Value*> biases;
    for (TargetWeight& weight : targetWeights(view, query, report)) {
        if (!std::all_of(weight.sites.begin(), weight.sites.end(), [](const analysis::Site* site) { return isProduct(*site->node); })) {
            skip(report, weight, "embedding tables and convolutions do not learn");
            continue;
        }
        for (const analysis::Site* site : weight.sites) biases.insert(site->bias);
        result.names.push_back(weight.constant->name());
        if (isPruned(*weight.constant->constant())) result.zeros[weight.constant->name()] = train::Zeros::stay;
        result.matrices.push_back(std::move(weight));
    }
    std::set<const ir::Value*> seen;
    for (const auto& node : model.graph().nodes())
        for (const ir::Value* input : node->inputs())
            if (input != nullptr && isChannelVector(*input) && (query.targets.empty() || biases.contains(input)) && seen.insert(input).second)
                result.names.push_back(input->name());
    return result;
}

}  // namespace tcompress::passes
