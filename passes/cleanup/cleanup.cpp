// Tidies a graph without changing a bit of what it computes: constant folding, operators that do nothing,
// equal constants, dead code.
//
//   Add(Const 1, Const 2)          →   Const 3
//   Identity, Cast to the same type, Transpose that keeps the order …   →   their input
//   two initializers of the same type, shape and bytes                  →   one
//
// Only operators whose result is exact (they move data, compute with integers, or round once as IEEE 754
// prescribes) are folded, so that every runtime would have computed the same bits. What was stored narrow and
// is widened or unpacked by the graph stays so: a constant that would take more bytes than the nodes and the
// constants that go with it is given back. Not handled: sub-graphs of If, Loop and Scan, which stay as they
// are.

#include <algorithm>
#include <numeric>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "lib/exec/executor.h"
#include "lib/ir/edit.h"
#include "lib/support/counted.h"
#include "passes/passes.h"
#include "passes/support/equal_constants.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "cleanup";
/// What one node may add on the way to a constant.
constexpr std::size_t kGrowthBytes = 1024;

struct Options {
    bool foldConstants = true;
    bool removeIdentities = true;
    bool mergeDuplicates = true;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("fold_constants", &Options::foldConstants, "compute what depends on constants only")
        .option("remove_identities", &Options::removeIdentities, "take out operators that do nothing")
        .option("merge_duplicates", &Options::mergeDuplicates, "store equal constants once");
    return table;
}

/// Operators whose results are the same bits in every correct runtime.
bool isExact(const ir::Node& node) {
    static const std::unordered_set<std::string_view> operators = {"Abs",
                                                                   "Add",
                                                                   "And",
                                                                   "BitShift",
                                                                   "BitwiseAnd",
                                                                   "BitwiseNot",
                                                                   "BitwiseOr",
                                                                   "BitwiseXor",
                                                                   "Cast",
                                                                   "Ceil",
                                                                   "Clip",
                                                                   "Concat",
                                                                   "ConstantOfShape",
                                                                   "CumSum",
                                                                   "Div",
                                                                   "Equal",
                                                                   "Expand",
                                                                   "Flatten",
                                                                   "Floor",
                                                                   "Gather",
                                                                   "GatherElements",
                                                                   "GatherND",
                                                                   "Greater",
                                                                   "GreaterOrEqual",
                                                                   "Identity",
                                                                   "IsInf",
                                                                   "IsNaN",
                                                                   "Less",
                                                                   "LessOrEqual",
                                                                   "Max",
                                                                   "Min",
                                                                   "Mod",
                                                                   "Mul",
                                                                   "Neg",
                                                                   "NonZero",
                                                                   "Not",
                                                                   "OneHot",
                                                                   "Or",
                                                                   "Pad",
                                                                   "Range",
                                                                   "Relu",
                                                                   "Reshape",
                                                                   "Round",
                                                                   "Shape",
                                                                   "Sign",
                                                                   "Size",
                                                                   "Slice",
                                                                   "Split",
                                                                   "Sqrt",
                                                                   "Squeeze",
                                                                   "Sub",
                                                                   "Tile",
                                                                   "Transpose",
                                                                   "Trilu",
                                                                   "Unsqueeze",
                                                                   "Where",
                                                                   "Xor",
                                                                   "ScatterND",
                                                                   "ScatterElements"};
    if (!node.domain().empty() || !operators.contains(node.opType())) return false;
    // Sums of floats depend on their order.
    const bool sums = node.is("CumSum") || node.is("Range");
    return !sums || (node.input(0) != nullptr && !isFloatingPoint(node.input(0)->dtype()));
}

std::size_t constantBytes(const std::vector<Tensor>& tensors) {
    return std::accumulate(tensors.begin(), tensors.end(), std::size_t{0},
                           [](std::size_t sum, const Tensor& tensor) { return sum + tensor.sizeBytes(); });
}

/// Bytes of the node in a file. What its NodeProto says of inputs and outputs is brought up to date when it is written.
std::size_t writtenBytes(const ir::Node& node) {
    onnx::NodeProto proto = node.proto();
    proto.clear_input();
    proto.clear_output();
    for (const ir::Value* input : node.inputs()) proto.add_input(input != nullptr ? input->name() : "");
    for (const ir::Value* output : node.outputs()) proto.add_output(output != nullptr ? output->name() : "");
    return proto.ByteSizeLong();
}

/// Constants computed so far, by the value they replace.
class Folding {
  public:
    explicit Folding(const ir::Model& model) : model_(model) {
        for (const auto& node : model.graph().nodes()) fold(*node);
        // Given back, a node makes constants of what it reads: from the last to the first.
        const auto& nodes = model.graph().nodes();
        for (auto node = nodes.rbegin(); node != nodes.rend(); ++node)
            if (nodes_.contains(node->get()) && growsFile(**node)) nodes_.erase(node->get());
    }

    std::size_t nodeCount() const { return nodes_.size(); }

    /// Puts constants where what stays reads a folded value.
    void apply(ir::Edit& edit) const {
        for (const auto& node : model_.graph().nodes()) {
            if (!nodes_.contains(node.get())) continue;
            for (ir::Value* output : node->outputs()) {
                if (isReadOutside(output))
                    edit.replaceAllUses(output, edit.addInitializer(output->name(), computed_.at(output)));
            }
        }
    }

  private:
    void fold(const ir::Node& node) {
        if (!isExact(node) || node.inputs().empty()) return;
        std::vector<Tensor> inputs;
        for (const ir::Value* input : node.inputs()) {
            const Tensor* known = constantOf(input);
            if (known == nullptr && input != nullptr) return;
            inputs.push_back(known == nullptr ? Tensor() : *known);
        }
        for (const ir::Value* output : node.outputs())
            if (output != nullptr && (isCaptured(*output) || output->isGraphOutput())) return;
        const std::vector<Tensor> outputs = exec::evaluateNode(model_, node, inputs);
        if (outputs.empty() || constantBytes(outputs) > constantBytes(inputs) + kGrowthBytes) return;
        nodes_.insert(&node);
        for (std::size_t i = 0; i < outputs.size(); ++i)
            if (node.output(i) != nullptr) computed_[node.output(i)] = outputs[i];
    }

    bool isReadOutside(const ir::Value* value) const {
        return value != nullptr && std::any_of(value->uses().begin(), value->uses().end(),
                                               [&](const ir::Use& use) { return !nodes_.contains(use.node); });
    }

    /// Whether the constants that the node leaves take more bytes than everything that they replace.
    bool growsFile(const ir::Node& last) const {
        std::size_t added = 0, saved = 0;
        for (const ir::Value* output : last.outputs())
            if (isReadOutside(output)) added += computed_.at(output).sizeBytes();
        std::vector<const ir::Node*> open{&last};
        std::unordered_set<const void*> seen{&last};
        while (!open.empty()) {
            const ir::Node* node = open.back();
            open.pop_back();
            saved += writtenBytes(*node);
            for (const ir::Value* input : node->inputs()) {
                if (input == nullptr || !seen.insert(input).second) continue;
                if (!computed_.contains(input))
                    saved += isReadOutside(input) ? 0 : input->constant()->sizeBytes();
                else if (seen.insert(input->producer()).second)
                    open.push_back(input->producer());
            }
        }
        return added > saved;
    }

    const Tensor* constantOf(const ir::Value* value) const {
        if (value == nullptr) return nullptr;
        const auto found = computed_.find(value);
        return found == computed_.end() ? value->constant() : &found->second;
    }

    const ir::Model& model_;
    std::unordered_map<const ir::Value*, Tensor> computed_;
    std::unordered_set<const ir::Node*> nodes_;
};

bool keepsOrder(const std::vector<std::int64_t>& permutation) {
    for (std::size_t i = 0; i < permutation.size(); ++i)
        if (permutation[i] != static_cast<std::int64_t>(i)) return false;
    return true;
}

bool isStatic(const Shape& shape) {
    return std::all_of(shape.begin(), shape.end(), [](std::int64_t size) { return size >= 0; });
}

/// Dropout that runs: a third input that is not a constant false asks for training.
bool dropsNothing(const ir::Node& dropout) {
    const ir::Value* mask = dropout.output(1);
    if (mask != nullptr && (!mask->uses().empty())) return false;
    const ir::Value* training = dropout.input(2);
    return training == nullptr ||
           (training->constant() != nullptr && toInt64(*training->constant()).front() == 0);
}

/// Whether the node's first output is always its first input, bit for bit.
bool doesNothing(const ir::Node& node) {
    if (!node.domain().empty() || node.input(0) == nullptr || node.output() == nullptr) return false;
    if (node.is("Identity")) return true;
    if (node.is("Dropout")) return dropsNothing(node);
    if (node.is("Concat") || node.is("Sum") || node.is("Max") || node.is("Min") || node.is("Mean"))
        return node.inputs().size() == 1;
    if (node.is("Cast")) {
        const DType from = node.input(0)->dtype();
        return from != DType::undefined && static_cast<std::int64_t>(from) == node.attributeInt("to", 0);
    }
    if (node.is("Transpose")) {
        const auto permutation = node.attributeInts("perm");
        return permutation && keepsOrder(*permutation);
    }
    if (node.is("Reshape") || node.is("Expand")) {
        const auto before = node.input(0)->shape(), after = node.output()->shape();
        return before && after && isStatic(*before) && *before == *after;
    }
    return false;
}

/// Graph outputs keep their names, so the node before must be free to take this one's.
bool canStandIn(const ir::Value& input, const ir::Value& output) {
    if (isCaptured(output)) return false;
    return !output.isGraphOutput() || (input.producer() != nullptr && !input.isGraphOutput() &&
                                       !isCaptured(input) && input.constant() == nullptr);
}

std::size_t removeIdentities(ir::Model& model) {
    ir::Edit edit(model, kPass);
    std::unordered_map<const ir::Value*, ir::Value*> replaced;
    std::unordered_set<const ir::Value*> takenNames;  // inputs that become a graph output
    std::size_t count = 0;
    for (const auto& node : model.graph().nodes()) {
        if (!doesNothing(*node)) continue;
        ir::Value* input = node->input(0);
        if (const auto found = replaced.find(input); found != replaced.end()) input = found->second;
        if (!canStandIn(*input, *node->output())) continue;
        if (node->output()->isGraphOutput() && !takenNames.insert(input).second) continue;
        edit.replaceAllUses(node->output(), input);
        replaced[node->output()] = input;
        ++count;
    }
    if (!edit.empty()) edit.commit();
    return count;
}

std::size_t foldConstants(ir::Model& model) {
    const Folding folding(model);
    ir::Edit edit(model, kPass);
    folding.apply(edit);
    if (!edit.empty()) edit.commit();
    return folding.nodeCount();
}

class Cleanup : public pipeline::Pass {
  public:
    explicit Cleanup(Options options) : options_(options) {}

    PassReport run(ir::Model& model, const PassContext&) const override {
        std::size_t folded = 0, removed = 0, merged = 0;
        const ir::DeadCode dead = ir::removeDeadCode(model);
        // Each kind makes room for the others: repeat until nothing moves.
        for (std::size_t before = 0, after = 1; before != after;) {
            before = folded + removed + merged;
            if (options_.removeIdentities) removed += removeIdentities(model);
            if (options_.foldConstants) folded += foldConstants(model);
            if (options_.mergeDuplicates) merged += mergeEqualConstants(model, kPass);
            after = folded + removed + merged;
        }
        PassReport report;
        const auto add = [&](std::size_t count, const char* where, const char* noun, const char* change) {
            if (count > 0) report.changed.push_back({where, counted(count, noun) + change});
        };
        add(dead.nodes, "dead code", "node", " without use removed");
        add(dead.initializers, "dead code", "initializer", " without use removed");
        add(removed, "identities", "operator", " without effect removed");
        add(folded, "constant folding", "node", " computed");
        add(merged, "duplicates", "constant", " stored once");
        return report;
    }

  private:
    Options options_;
};

}  // namespace

pipeline::PassInfo cleanup() {
    pipeline::PassInfo info;
    info.type = "cleanup";
    info.summary = "fold constants, remove what does nothing, store equal constants once";
    info.details =
        "Changes no bit of the model's outputs: only operators with exact results are computed in advance, "
        "and what is stored narrow (packed or quantized weights) is not widened.";
    info.defaultMethod = true;
    info.idleIsFine = true;
    bindOptions<Cleanup>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
