#include "passes/quantize/int8/qdq_groups.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <optional>

namespace tcompress::passes {
namespace {

/// What an operator needs beside the input that is dequantized.
enum class Output { any, quantized, sameCode };
struct Rule {
    const char* opType;
    std::size_t dequantized;  ///< inputs that must come from DequantizeLinear; kAll: every one
    std::size_t bias;         ///< an input that must be int32 codes when it is there; 0: none
    Output output;
};
constexpr std::size_t kAll = 99;

constexpr Rule kRules[] = {
    {"MatMul", 2, 0, Output::any},
    {"Gemm", 2, 2, Output::any},
    {"Conv", 2, 2, Output::quantized},
    {"Add", 2, 0, Output::quantized},
    {"Mul", 2, 0, Output::quantized},
    {"Concat", kAll, 0, Output::quantized},
    {"Softmax", 1, 0, Output::quantized},
    {"Sigmoid", 1, 0, Output::quantized},
    {"LeakyRelu", 1, 0, Output::quantized},
    {"AveragePool", 1, 0, Output::quantized},
    {"GlobalAveragePool", 1, 0, Output::quantized},
    {"Gather", 1, 0, Output::sameCode},
    {"Reshape", 1, 0, Output::sameCode},
    {"Transpose", 1, 0, Output::sameCode},
    {"Squeeze", 1, 0, Output::sameCode},
    {"Unsqueeze", 1, 0, Output::sameCode},
    {"MaxPool", 1, 0, Output::sameCode},
};

const ir::Node* dequantizer(const ir::Value* value) {
    const ir::Node* node = value == nullptr ? nullptr : value->producer();
    return node != nullptr && node->is("DequantizeLinear") ? node : nullptr;
}

/// Whether its codes depend on what the model is given.
bool isComputed(const ir::Node& dequantize) { return dequantize.input(0)->constant() == nullptr; }

/// The QuantizeLinear that all readers of the output are; null when there is another reader.
const ir::Node* quantizerBehind(const ir::Node& node) {
    const ir::Node* found = nullptr;
    for (const ir::Value* output : node.outputs())
        for (const ir::Use& use : output == nullptr ? std::vector<ir::Use>{} : output->uses()) {
            if (use.kind != ir::UseKind::input || !use.node->is("QuantizeLinear") || use.index != 0) return nullptr;
            found = use.node;
        }
    return found;
}

bool sameConstant(const ir::Value* a, const ir::Value* b) {
    if (a == b) return true;
    const Tensor* first = a == nullptr ? nullptr : a->constant();
    const Tensor* second = b == nullptr ? nullptr : b->constant();
    return first != nullptr && second != nullptr && first->dtype() == second->dtype() &&
           std::ranges::equal(first->bytes(), second->bytes());
}

std::string refusal(const ir::Node& node) {
    const auto rule =
        std::find_if(std::begin(kRules), std::end(kRules), [&](const Rule& row) { return node.is(row.opType); });
    if (rule == std::end(kRules)) return "there is no kernel for its codes";
    const std::size_t needed = rule->dequantized == kAll ? node.inputs().size() : rule->dequantized;
    for (std::size_t i = 0; i < needed; ++i)
        if (dequantizer(node.input(i)) == nullptr)
            return fmt::format("its input {} is not dequantized", i);
    if (node.is("Gemm") && dequantizer(node.input(1))->input(2) == nullptr) return "its weight has no zero point";
    if (rule->bias != 0 && node.input(rule->bias) != nullptr) {
        const ir::Node* bias = dequantizer(node.input(rule->bias));
        if (bias == nullptr || bias->input(0)->dtype() != DType::int32)
            return "its bias is float32, not dequantized from int32";
    }
    const ir::Node* quantize = quantizerBehind(node);
    if (rule->output != Output::any && quantize == nullptr) return "its output is not quantized";
    if (rule->output == Output::sameCode) {
        const ir::Node& dequantize = *dequantizer(node.input(0));
        if (!sameConstant(dequantize.input(1), quantize->input(1)) || !sameConstant(dequantize.input(2), quantize->input(2)))
            return "its output has another scale or zero point than its input";
    }
    return {};
}

}  // namespace

std::vector<QdqGroup> qdqGroups(const ir::Model& model) {
    std::vector<QdqGroup> groups;
    for (const auto& node : model.graph().nodes()) {
        if (node->is("QuantizeLinear") || node->is("DequantizeLinear")) continue;
        const auto& inputs = node->inputs();
        const bool reads = std::any_of(inputs.begin(), inputs.end(), [](const ir::Value* input) {
            const ir::Node* dequantize = dequantizer(input);
            return dequantize != nullptr && isComputed(*dequantize);
        });
        if (reads) groups.push_back({node.get(), refusal(*node)});
    }
    return groups;
}

std::vector<std::string> describeQdqGroups(const ir::Model& model) {
    const std::vector<QdqGroup> groups = qdqGroups(model);
    if (groups.empty()) return {};
    const auto left =
        std::count_if(groups.begin(), groups.end(), [](const QdqGroup& group) { return !group.refusal.empty(); });
    std::vector<std::string> lines{fmt::format(
        "ONNX Runtime fuses {} of {} operators that read codes{}", groups.size() - static_cast<std::size_t>(left),
        groups.size(), left == 0 ? "" : "; these stay float32 between conversions:")};
    for (const QdqGroup& group : groups)
        if (!group.refusal.empty())
            lines.push_back(fmt::format("not fused: {} '{}': {}", group.node->opType(), group.node->label(), group.refusal));
    return lines;
}

}  // namespace tcompress::passes
