// Constant folding and the removal of nodes that hand on their input.

#include <algorithm>

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"
#include "lib/exec/program.h"
#include "lib/support/error.h"

namespace tcompress::exec {

namespace {

/// Folding must not blow up what a model keeps small: a result above this size must not outgrow its inputs.
constexpr std::size_t kAlwaysFoldBytes = 64 << 10;

bool isDeterministic(const PlanNode& node) { return node.opType().rfind("Random", 0) != 0 && node.opType() != "Bernoulli"; }

/// A table that is only read row by row stays as it is stored.
bool isOnlyGathered(const Rewriter& rewriter, const PlanNode& node) {
    const auto& users = rewriter.users(node.output());
    return !users.empty() && std::all_of(users.begin(), users.end(), [&](const PlanNode* user) {
        return user->is("Gather") && user->input(0) == node.output();
    });
}

/// A dequantized matrix on the right of products.
bool isOnlyMultiplied(const Rewriter& rewriter, const PlanNode& node) {
    const auto& users = rewriter.users(node.output());
    return node.opType() == "DequantizeLinear" && !users.empty() && std::all_of(users.begin(), users.end(), [&](const PlanNode* user) {
        return (user->is("MatMul") || user->is("Gemm")) && user->input(1) == node.output() && user->input(0) != node.output();
    });
}

std::size_t constantInputBytes(const Rewriter& rewriter, const PlanNode& node) {
    std::size_t bytes = 0;
    for (ValueId id : node.inputs) {
        if (id != kNoValue) bytes += rewriter.constant(id)->sizeBytes();
    }
    return bytes;
}

/// Weights that come out of these are packed or read once each run anyway: they are folded at any size. The second line
/// unpacks codes of less than a byte, the third digits of base 3 and numbers of a codebook's entries.
bool isWeightDecoding(const PlanNode& node) {
    static constexpr const char* kDecoders[] = {"DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity",
                                                "BitShift", "Add", "Sub", "Mul", "Slice",
                                                "Div", "Mod", "Gather", "GatherElements"};
    return std::any_of(std::begin(kDecoders), std::end(kDecoders), [&](const char* name) { return node.is(name); });
}

std::vector<Tensor> evaluate(const PlanNode& node, const PlanGraph& graph) {
    PlanGraph single;
    single.opsets = graph.opsets;
    PlanNode step = node;
    for (ValueId& id : step.inputs) {
        if (id != kNoValue) id = single.addConstant(graph.value(id).name, graph.value(id).constant);
    }
    for (ValueId& id : step.outputs) {
        if (id == kNoValue) continue;
        PlanValue value;
        value.kept = true;
        id = single.addValue(std::move(value));
        single.outputs.push_back(id);
    }
    single.nodes.push_back(std::move(step));
    Profile profile;
    Allocator allocator;
    return tensorsOf(Program(std::move(single), profile, nullptr).run(allocator, {}));
}

}  // namespace

void eraseConstantNodes(PlanGraph& graph) {
    std::erase_if(graph.nodes, [&](const PlanNode& node) {
        return std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) { return id == kNoValue || graph.constant(id); });
    });
}

void foldConstants(PlanGraph& graph, StoredMatrices matrices) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.inputs.empty() || node.capturedFrom != node.inputs.size() || !isDeterministic(node)) return;
        const bool constant = std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
            return id == kNoValue || rewriter.constant(id);
        });
        if (!constant || !findOperator(node.domain, node.opType(), node.version)) return;
        if (isWeightDecoding(node) && isOnlyGathered(rewriter, node) && constantInputBytes(rewriter, node) > kAlwaysFoldBytes) return;
        if (matrices == StoredMatrices::keep && isOnlyMultiplied(rewriter, node)) return;
        std::vector<Tensor> results;
        try {
            results = evaluate(node, graph);
        } catch (const Error&) {
            return;  // said with the node's name when it runs
        }
        std::size_t bytes = 0;
        for (const Tensor& result : results) bytes += result.sizeBytes();
        if (bytes > kAlwaysFoldBytes && !isWeightDecoding(node) && bytes > constantInputBytes(rewriter, node)) return;
        auto result = results.begin();
        for (ValueId id : node.outputs) {
            if (id == kNoValue) continue;
            PlanValue& value = graph.value(id);
            // A value that must exist keeps its node, so that an observer sees it; its readers still get the constant.
            if (value.kept) {
                const ValueId copy = graph.addConstant(value.name, *result);
                rewriter.redirect(id, copy);
            } else {
                value.constant = *result;
                value.dtype = result->dtype();
            }
            ++result;
        }
    });
    // Nodes whose outputs became constants have users that no longer need them.
    rewriter.finish();
    eraseConstantNodes(graph);
}

void removeIdentities(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        const bool copies = node.is("Identity") || (node.is("Dropout") && node.outputs.size() == 1 && node.input(2) == kNoValue);
        const bool castsToItself = node.is("Cast") && graph.value(node.input(0)).dtype != DType::undefined &&
                                   static_cast<std::int64_t>(graph.value(node.input(0)).dtype) == Attributes(*node.proto).integer("to", 0);
        const bool joinsOne = node.is("Concat") && node.inputs.size() == 1;
        if (!(copies || castsToItself || joinsOne) || graph.value(node.output()).kept) return;
        rewriter.redirect(node.output(), node.input(0));
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
