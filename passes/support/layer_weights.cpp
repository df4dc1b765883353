#include "passes/support/layer_weights.h"

#include <fmt/core.h>

#include <algorithm>

namespace tcompress::passes {
namespace {

using analysis::Site;

/// Gemm scales its product and its bias.
float productScale(const Site& site) {
    return site.node->is("Gemm") ? site.node->attributeFloat("alpha", 1.0f) : 1.0f;
}
float biasScale(const Site& site) {
    return site.node->is("Gemm") && site.biasNode == nullptr ? site.node->attributeFloat("beta", 1.0f) : 1.0f;
}

/// Whether the bias is an operand of the product's own node.
bool isInside(const Site& site) { return site.bias != nullptr && site.biasNode == nullptr; }

/// Where the weight's elements lie: the contracted axis first or last.
struct Grid {
    std::int64_t inputs, outputs, inputStride, outputStride;
    Grid(const Tensor& tensor, std::size_t inAxis)
        : inputs(tensor.shape()[inAxis]),
          outputs(tensor.shape()[1 - inAxis]),
          inputStride(inAxis == 0 ? outputs : 1),
          outputStride(inAxis == 0 ? 1 : inputs) {}
    std::size_t at(std::int64_t input, std::int64_t output) const {
        return static_cast<std::size_t>(input * inputStride + output * outputStride);
    }
};

}  // namespace

std::string refitRefusal(const TargetWeight& weight) {
    const Tensor& tensor = *weight.constant->constant();
    if (tensor.rank() != 2) return fmt::format("its weight has rank {}, not 2", tensor.rank());
    if (tensor.size() == 0) return "its weight has no elements";
    for (const Site* site : weight.sites) {
        const ir::Node& node = *site->node;
        if (!node.is("MatMul") && !node.is("Gemm"))
            return fmt::format("{} has its weights inside", node.opType());
        if (site->input != node.input(0)) return "its weight is the left operand";
        if (node.attributeInt("transA", 0) != 0) return "its input is transposed";
        if (productScale(*site) == 0 || productScale(*site) != productScale(*weight.sites.front()))
            return "its product is scaled";
        if (node.is("Gemm") && node.input(2) != nullptr &&
            !(isInside(*site) && biasFit(*site) == BiasFit::fitted))
            return "its bias is no constant vector";
    }
    return {};
}

BiasFit biasFit(const Site& site) {
    const Tensor* bias = site.bias == nullptr ? nullptr : site.bias->constant();
    const bool usable = bias != nullptr && bias->dtype() == DType::float32 &&
                        bias->size() == site.outFeatures && biasScale(site) != 0;
    return usable ? BiasFit::fitted : BiasFit::kept;
}

LinearLayer readLayer(const Site& site) {
    const Tensor& tensor = *site.weight->constant();
    const Grid grid(tensor, site.inAxis);
    const auto values = tensor.data<float>();
    const double scale = productScale(site);
    LinearLayer layer;
    layer.weight.reserve(values.size());
    for (std::int64_t i = 0; i < grid.inputs; ++i)
        for (std::int64_t o = 0; o < grid.outputs; ++o) layer.weight.push_back(scale * values[grid.at(i, o)]);
    layer.bias = isInside(site) ? wholeBias(site) : std::vector<double>(static_cast<std::size_t>(grid.outputs));
    return layer;
}

std::vector<double> wholeBias(const Site& site) {
    std::vector<double> result(static_cast<std::size_t>(site.outFeatures));
    if (biasFit(site) == BiasFit::kept) return result;
    const auto bias = site.bias->constant()->data<float>();
    for (std::size_t o = 0; o < result.size(); ++o) result[o] = static_cast<double>(bias[o]) * biasScale(site);
    return result;
}

void writeLayer(ir::Edit& edit, const TargetWeight& weight, const LinearLayer& before,
                const LinearLayer& after) {
    Tensor tensor = *weight.constant->constant();
    const Grid grid(tensor, weight.inAxis);
    const auto values = tensor.mutableData<float>();
    const double scale = productScale(*weight.sites.front());
    for (std::int64_t i = 0; i < grid.inputs; ++i)
        for (std::int64_t o = 0; o < grid.outputs; ++o)
            values[grid.at(i, o)] = static_cast<float>(
                after.weight[static_cast<std::size_t>(i * grid.outputs + o)] / scale);
    edit.setConstant(weight.constant, tensor);
    if (after.bias == before.bias) return;
    for (const Site* site : weight.sites) {
        if (biasFit(*site) == BiasFit::kept) continue;
        Tensor bias = *site->bias->constant();
        const auto biases = bias.mutableData<float>();
        for (std::size_t o = 0; o < biases.size(); ++o)
            biases[o] += static_cast<float>((after.bias[o] - before.bias[o]) / biasScale(*site));
        ir::Node* const node = site->biasNode == nullptr ? site->node : site->biasNode;
        const auto& inputs = node->inputs();
        const auto slot = std::find(inputs.begin(), inputs.end(), site->bias) - inputs.begin();
        // Exporters merge equal vectors: another layer's bias must not move along.
        if (site->bias->uses().size() == 1)
            edit.setConstant(site->bias, bias);
        else
            edit.replaceInput(node, static_cast<std::size_t>(slot),
                              edit.addInitializer(site->bias->name(), bias));
    }
}

}  // namespace tcompress::passes
