// float16 and bfloat16 models on a processor without their arithmetic: every value becomes float32, so that the fused
// kernels run and nothing is converted back and forth. A Cast to a narrow type still rounds. Tables that are only
// gathered from stay narrow, and so do the graph's inputs and outputs.

#include <algorithm>

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

bool isNarrow(DType type) { return type == DType::float16 || type == DType::bfloat16; }

bool hasSubgraphs(const PlanGraph& graph) {
    return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const PlanNode& node) {
        const auto& attributes = node.proto->attribute();
        return std::any_of(attributes.begin(), attributes.end(), [](const onnx::AttributeProto& a) { return a.has_g() || a.graphs_size() > 0; });
    });
}

/// A node that makes a narrow value whatever its inputs are.
bool makesNarrow(const PlanNode& node) {
    const Attributes attributes(*node.proto);
    const auto names = [&](std::string_view attribute) { return isNarrow(static_cast<DType>(attributes.integer(attribute, 0))); };
    if (node.is("Cast")) return names("to");
    if (node.is("EyeLike") || node.opType().rfind("Random", 0) == 0) return names("dtype");
    if (node.is("DequantizeLinear")) return names("output_dtype");
    if (node.is("ConstantOfShape") || node.is("Constant")) {
        const auto value = attributes.tensor("value");
        return value && isNarrow(value->dtype());
    }
    return false;
}

bool isGatheredTable(const Rewriter& rewriter, ValueId id) {
    const auto& users = rewriter.users(id);
    return !users.empty() && std::all_of(users.begin(), users.end(), [&](const PlanNode* user) { return user->is("Gather") && user->input(0) == id; });
}

/// Where an unknown type matters: at a value that must keep its type, and at one that a node makes narrow.
bool hasUnknownTypes(const PlanGraph& graph) {
    return std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const PlanNode& node) {
        return std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
            return id != kNoValue && graph.value(id).dtype == DType::undefined && (graph.value(id).kept || makesNarrow(node));
        });
    });
}

PlanNode castTo(const Rewriter& rewriter, ValueId from, ValueId to, DType type) {
    PlanNode cast = rewriter.make("", "Cast", {from}, {to}, rewriter.graph().value(from).name + "/widened", 13);
    setAttribute(protoOf(cast), "to", static_cast<std::int64_t>(type));
    return cast;
}

/// A new float32 value that takes over every reader of `narrow`.
ValueId wideTwin(Rewriter& rewriter, ValueId narrow) {
    PlanValue value;
    value.name = rewriter.graph().value(narrow).name;
    value.dtype = DType::float32;
    const ValueId wide = rewriter.graph().addValue(std::move(value));
    rewriter.redirect(narrow, wide);
    return wide;
}

void widenOutput(Rewriter& rewriter, PlanNode& node, std::size_t index, bool makesNarrowHere) {
    const ValueId output = node.outputs[index];
    PlanValue& value = rewriter.graph().value(output);
    if (makesNarrowHere) {
        const ValueId wide = wideTwin(rewriter, output);
        rewriter.insertAfter(node, castTo(rewriter, output, wide, DType::float32));
    } else if (value.kept) {
        const DType type = value.dtype;
        const ValueId wide = wideTwin(rewriter, output);
        PlanNode changed = node;
        changed.outputs[index] = wide;
        rewriter.replace(node, std::move(changed));
        rewriter.insertAfter(node, castTo(rewriter, wide, output, type));
    } else {
        value.dtype = DType::float32;
    }
}

}  // namespace

void widenFloats(PlanGraph& graph) {
    const bool narrow = std::any_of(graph.values.begin(), graph.values.end(), [](const PlanValue& v) { return isNarrow(v.dtype); });
    if (!narrow || hasSubgraphs(graph) || hasUnknownTypes(graph)) return;
    Rewriter rewriter(graph);
    for (std::size_t i = 0; i < graph.values.size(); ++i) {
        PlanValue& value = graph.values[i];
        if (!value.isConstant() || !isNarrow(value.dtype) || value.kept || isGatheredTable(rewriter, static_cast<ValueId>(i))) continue;
        value.constant = convert(value.constant, DType::float32);
        value.dtype = DType::float32;
    }
    rewriter.forEach([&](PlanNode& node) {
        const bool fromTable = node.is("Gather") && graph.constant(node.input(0)) && isNarrow(graph.value(node.input(0)).dtype);
        for (std::size_t i = 0; i < node.outputs.size(); ++i) {
            if (node.outputs[i] == kNoValue || !isNarrow(graph.value(node.outputs[i]).dtype)) continue;
            widenOutput(rewriter, node, i, fromTable || makesNarrow(node));
        }
    });
    const std::vector<ValueId> inputs = graph.inputs;
    for (ValueId input : inputs) {
        if (!isNarrow(graph.value(input).dtype)) continue;
        const ValueId wide = wideTwin(rewriter, input);
        rewriter.insertFront(castTo(rewriter, input, wide, DType::float32));
    }
    rewriter.finish();
}

}  // namespace tcompress::exec
