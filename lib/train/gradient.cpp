#include "lib/train/gradient.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <utility>

#include "lib/support/check.h"
#include "lib/support/error.h"
#include "lib/train/rules.h"

namespace tcompress::train {
namespace {

class SeenObserver : public exec::Observer {
  public:
    explicit SeenObserver(SeenValues& seen) : seen_(seen) {}
    bool wants(const ir::Value&) const override { return true; }
    void observe(const ir::Value& value, const Tensor& tensor) override {
        constexpr std::int64_t kFew = 64;
        SeenValue& seen = seen_[value.name()];
        seen = {tensor.dtype(), tensor.shape(), {}};
        if (tensor.dtype() != DType::int64 || tensor.size() > kFew) return;
        const auto elements = tensor.data<std::int64_t>();
        seen.integers.assign(elements.begin(), elements.end());
    }

  private:
    SeenValues& seen_;
};

/// A node on a way from a value asked for to an output.
struct Step {
    const ir::Node* node = nullptr;
    Rule rule = nullptr;
    std::vector<bool> wanted;  ///< by input
};

struct Plan {
    std::vector<Step> steps;  ///< in the order of the graph
    std::string problem;
};

/// All nodes that an output depends on.
std::set<const ir::Node*> ancestors(const ir::Graph& graph, const std::vector<std::string>& outputs) {
    std::set<const ir::Node*> found;
    std::vector<const ir::Value*> waiting;
    for (const std::string& name : outputs) waiting.push_back(graph.find(name));
    while (!waiting.empty()) {
        const ir::Value* value = waiting.back();
        waiting.pop_back();
        const ir::Node* node = value == nullptr ? nullptr : value->producer();
        if (node == nullptr || !found.insert(node).second) continue;
        waiting.insert(waiting.end(), node->inputs().begin(), node->inputs().end());
        waiting.insert(waiting.end(), node->captured().begin(), node->captured().end());
    }
    return found;
}

Plan planOf(const ir::Model& model, const std::vector<std::string>& outputs, const std::vector<std::string>& of, const SeenValues& seen) {
    const std::set<const ir::Node*> needed = ancestors(model.graph(), outputs);
    std::set<const ir::Value*> moving;
    for (const std::string& name : of) moving.insert(model.graph().find(name));
    const auto moves = [&](const ir::Value* value) { return value != nullptr && moving.contains(value); };
    Plan plan;
    for (const auto& node : model.graph().nodes()) {
        const auto& inputs = node->inputs();
        const bool isMoved = std::any_of(inputs.begin(), inputs.end(), moves) || std::any_of(node->captured().begin(), node->captured().end(), moves);
        if (!isMoved || !needed.contains(node.get())) continue;
        const NodeRule rule = ruleFor(model, *node, seen);
        if (rule.kind == NodeRule::Kind::constant) continue;
        if (rule.kind == NodeRule::Kind::none) {
            plan.problem = fmt::format("node '{}' ({}) has no rule for its gradient", node->label(), node->opType());
            if (model.opset() < kFewestOpset)
                plan.problem += fmt::format(", as in all models before opset {}; this one has {}", kFewestOpset, model.opset());
            return plan;
        }
        Step& step = plan.steps.emplace_back(node.get(), rule.rule);
        for (const ir::Value* input : inputs) step.wanted.push_back(moves(input));
        for (const ir::Value* output : node->outputs()) moving.insert(output);
    }
    return plan;
}

}  // namespace

SeenValues seenValues(const ir::Model& model, const exec::Feeds& feeds) {
    SeenValues seen;
    SeenObserver observer(seen);
    exec::Executor executor(model, {.fusion = exec::Fusion::none, .outputs = std::vector<const ir::Value*>{}}, &observer);
    executor.run(feeds);
    for (const auto& [name, tensor] : feeds)
        if (const ir::Value* input = model.graph().find(name); input != nullptr && input->isGraphInput()) observer.observe(*input, tensor);
    return seen;
}

std::string whyNoGradients(const ir::Model& model, const std::vector<std::string>& outputs, const std::vector<std::string>& of,
                           const SeenValues& seen) {
    return planOf(model, outputs, of, seen).problem;
}

GradientModel withGradients(const ir::Model& model, const std::vector<std::string>& outputs, const std::vector<std::string>& of,
                            const SeenValues& seen) {
    GradientModel result{model.clone(), {}, {}};
    const ir::Graph& graph = result.model.graph();
    const Plan plan = planOf(result.model, outputs, of, seen);
    if (!plan.problem.empty()) throw PassError(plan.problem);
    ir::Edit edit(result.model, "gradient");
    edit.requireOpset("com.microsoft", 1);
    Gradients gradients;
    for (const std::string& name : outputs) {
        ir::Value* output = graph.find(name);
        TCOMPRESS_CHECK(output != nullptr && output->producer() != nullptr, fmt::format("'{}' is not computed", name));
        ir::Value* cotangent = ir::emit(edit, "Identity", {output}, {}, "cotangent");
        result.cotangents[name] = cotangent->name();
        gradients[output] = cotangent;
    }
    for (auto step = plan.steps.rbegin(); step != plan.steps.rend(); ++step) {
        NodeGradient gradient(edit, result.model, *step->node, seen, step->wanted, gradients);
        const auto& made = step->node->outputs();
        if (std::any_of(made.begin(), made.end(), [&](const ir::Value* y) { return gradients.contains(y); })) step->rule(gradient);
    }
    std::set<ir::Value*> listed;
    for (const std::string& name : of) {
        const auto found = gradients.find(graph.find(name));
        if (found == gradients.end()) continue;
        result.gradients[name] = found->second->name();
        if (listed.insert(found->second).second) edit.addGraphOutput(found->second);
    }
    edit.commit();
    // Of outputs that none of the values moves nothing is left to feed.
    std::erase_if(result.cotangents, [&](const auto& entry) { return graph.find(entry.second) == nullptr; });
    return result;
}

}  // namespace tcompress::train
