// Activations spelled out as sub-graphs. Exporters write GELU in many ways (x/√2 or x·0.7071, the factors in any order,
// Pow or Mul for the cube), so the spelling is not matched: the element-wise nodes above a candidate are collected
// until they depend on one value x alone, and that function of x is evaluated at sample points against the known ones.

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "kernels/activation.h"
#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/cluster.h"
#include "lib/exec/optimize/patterns.h"
#include "lib/support/error.h"

namespace tcompress::exec {

namespace {

using kernels::Activation;

constexpr std::size_t kLargestCluster = 12;

bool isElementwise(const PlanNode& node) {
    static const std::set<std::string, std::less<>> kinds{"Add", "Sub", "Mul", "Div", "Pow", "Erf", "Tanh",
                                                         "Sigmoid", "Exp", "Neg", "Reciprocal", "Identity"};
    return node.domain.empty() && kinds.contains(node.opType());
}

bool isTranscendental(const PlanNode& node) {
    return node.is("Erf") || node.is("Tanh") || node.is("Sigmoid") || node.is("Exp");
}

constexpr std::size_t kSampleCount = 41;

std::vector<float> samplePoints() {
    std::vector<float> points;
    for (std::size_t i = 0; i < kSampleCount; ++i) points.push_back(-8.0F + 0.4F * static_cast<float>(i) + 0.013F);
    return points;
}

std::vector<float> sampled(const Rewriter& rewriter, const Cluster& cluster, const PlanNode& last) {
    const std::vector<float> points = samplePoints();
    const Tensor x = Tensor::of<float>({static_cast<std::int64_t>(points.size())}, points);
    const Tensor y = evaluate(rewriter, cluster, last, x);
    if (y.dtype() != DType::float32 || y.size() != x.size()) return {};
    return {y.data<float>().begin(), y.data<float>().end()};
}

std::optional<Activation> recognise(const std::vector<float>& values) {
    constexpr std::array kKnown{Activation::geluErf, Activation::geluTanh, Activation::silu, Activation::quickGelu};
    const std::vector<float> points = samplePoints();
    if (values.size() != points.size()) return std::nullopt;
    for (Activation activation : kKnown) {
        std::vector<float> expected(points.size());
        kernels::activate(activation, points, expected);
        const bool same = std::equal(values.begin(), values.end(), expected.begin(), [](float a, float b) {
            // The two GELUs differ by up to 5e-4; float32 spellings of one differ by less than 1e-5.
            return std::abs(a - b) <= 2e-5F * std::max(1.0F, std::abs(b));
        });
        if (same) return activation;
    }
    return std::nullopt;
}

bool hasRealInputs(const PlanGraph& graph, const PlanNode& node) {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
        const DType type = id == kNoValue ? DType::float32 : graph.value(id).dtype;
        return type == DType::float32 || type == DType::undefined;
    });
}

/// The activation goes before a Reshape that only it reads, to be next to the linear layer there.
void place(Rewriter& rewriter, PlanNode& node, ValueId source, Activation activation) {
    const PlanNode* reshape = rewriter.producer(source, "Reshape");
    const bool before = reshape && std::all_of(rewriter.users(source).begin(), rewriter.users(source).end(), [&](const PlanNode* user) {
                            return isElementwise(*user);
                        }) && !rewriter.graph().value(source).kept;
    if (!before) {
        PlanNode fused = rewriter.make(kFusedDomain, "Activation", {source}, node.outputs, node.label());
        setAttribute(protoOf(fused), "activation", static_cast<std::int64_t>(activation));
        rewriter.replace(node, std::move(fused));
        return;
    }
    const ValueId shape = reshape->input(1);
    const std::int64_t version = reshape->version;
    const std::int64_t allowZero = Attributes(*reshape->proto).integer("allowzero", 0);
    const ValueId value = rewriter.insertBefore(node, kFusedDomain, "Activation", {reshape->input(0)}, DType::float32);
    setAttribute(protoOf(*rewriter.producer(value)), "activation", static_cast<std::int64_t>(activation));
    PlanNode after = rewriter.make("", "Reshape", {value, shape}, node.outputs, node.label(), version);
    setAttribute(protoOf(after), "allowzero", allowZero);
    rewriter.replace(node, std::move(after));
}

}  // namespace

void fuseActivations(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        // Every known activation ends in a product or (x / (1 + e^-x)) a quotient.
        if (!(node.is("Mul") || node.is("Div")) || !hasRealInputs(graph, node)) return;
        for (const Cluster& cluster : clustersAbove(rewriter, node, kLargestCluster, isElementwise)) {
            const bool interesting = std::any_of(cluster.nodes.begin(), cluster.nodes.end(), [](const PlanNode* n) { return isTranscendental(*n); });
            const bool kept = std::any_of(cluster.nodes.begin(), cluster.nodes.end(), [&](const PlanNode* inner) {
                return inner != &node && graph.value(inner->output()).kept;
            });
            if (kept || !interesting) continue;
            std::optional<Activation> activation;
            try {
                activation = recognise(sampled(rewriter, cluster, node));
            } catch (const Error&) {
                continue;  // not a function of one float32 value
            }
            if (!activation) continue;
            place(rewriter, node, cluster.source, *activation);
            return;
        }
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
