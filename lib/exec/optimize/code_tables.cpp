// A function of one 8-bit code has 256 values. Whatever element-wise operators stand between a
// DequantizeLinear and a QuantizeLinear, roundings in between included, becomes one look-up in the table of
// what they give.

#include <algorithm>
#include <numeric>
#include <set>

#include "lib/exec/operator.h"
#include "lib/exec/optimize/cluster.h"
#include "lib/exec/optimize/codes.h"
#include "lib/exec/optimize/patterns.h"
#include "lib/support/error.h"

namespace tcompress::exec {

namespace {

constexpr std::size_t kLargestCluster = 32;

bool isElementwise(const Rewriter& rewriter, const PlanNode& node) {
    static const std::set<std::string, std::less<>> kinds{
        "Add",         "Sub",       "Mul",  "Div",  "Pow",      "Erf", "Tanh",
        "Sigmoid",     "Exp",       "Neg",  "Abs",  "Sqrt",     "Log", "Relu",
        "Reciprocal",  "Identity",  "Gelu", "Clip", "Softplus", "Elu", "LeakyRelu",
        "HardSigmoid", "HardSwish", "Min",  "Max"};
    if (isQuantize(node) || isDequantize(node)) return tensorCode(rewriter, &node).has_value();
    return node.is(kFusedDomain, "Activation") || (node.domain.empty() && kinds.contains(node.opType()));
}

/// The code of the source when nobody but dequantizations reads it in the cluster.
std::optional<kernels::Int8Code> sourceCode(const Rewriter& rewriter, const Cluster& cluster) {
    std::optional<kernels::Int8Code> code;
    for (const PlanNode* node : cluster.nodes) {
        if (std::find(node->inputs.begin(), node->inputs.end(), cluster.source) == node->inputs.end())
            continue;
        const auto read = isDequantize(*node) && node->input(0) == cluster.source ? tensorCode(rewriter, node)
                                                                                  : std::nullopt;
        if (!read || (code && code->type != read->type)) return std::nullopt;
        code = read;
    }
    return code;
}

bool addsRank(const Rewriter& rewriter, const Cluster& cluster) {
    return std::any_of(cluster.nodes.begin(), cluster.nodes.end(), [&](const PlanNode* node) {
        return std::any_of(node->inputs.begin(), node->inputs.end(), [&](ValueId id) {
            return rewriter.constant(id) && rewriter.constant(id)->rank() > 1;
        });
    });
}

/// All values of the type in the order of their bytes.
Tensor allCodes(DType type) {
    Tensor codes(type, {256});
    auto* bytes = reinterpret_cast<std::uint8_t*>(codes.mutableBytes().data());
    std::iota(bytes, bytes + 256, std::uint8_t{0});
    return codes;
}

void tabulate(Rewriter& rewriter, PlanNode& quantize, const kernels::Int8Code& code) {
    auto clusters = clustersAbove(rewriter, quantize, kLargestCluster,
                                  [&](const PlanNode& node) { return isElementwise(rewriter, node); });
    std::reverse(clusters.begin(), clusters.end());
    for (const Cluster& cluster : clusters) {
        const auto source = sourceCode(rewriter, cluster);
        const bool kept = std::any_of(cluster.nodes.begin(), cluster.nodes.end(), [&](const PlanNode* node) {
            return node != &quantize && rewriter.graph().value(node->output()).kept;
        });
        if (!source || kept || addsRank(rewriter, cluster)) continue;
        try {
            const Tensor table = evaluate(rewriter, cluster, quantize, allCodes(source->type));
            if (table.size() != 256 || table.dtype() != code.type) continue;
            const ValueId constant = rewriter.graph().addConstant(quantize.label() + "/table", table);
            rewriter.replace(quantize, rewriter.make(kFusedDomain, "CodeTable", {cluster.source, constant},
                                                     quantize.outputs, quantize.label()));
            return;
        } catch (const Error&) {
            continue;  // what does not run is said with the node's name when it is run
        }
    }
}

}  // namespace

void tabulateCodes(PlanGraph& graph) {
    Rewriter rewriter(graph);
    // The last first: the longest chain swallows the shorter ones that it ends.
    std::vector<PlanNode*> quantizations;
    rewriter.forEach([&](PlanNode& node) {
        if (isQuantize(node)) quantizations.push_back(&node);
    });
    for (auto at = quantizations.rbegin(); at != quantizations.rend(); ++at) {
        if (const auto code = tensorCode(rewriter, *at)) tabulate(rewriter, **at, *code);
    }
    rewriter.finish();
}

}  // namespace tcompress::exec
