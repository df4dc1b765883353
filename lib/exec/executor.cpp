#include "lib/exec/executor.h"

#include <fmt/core.h>

#include <algorithm>

#include "lib/exec/optimize/optimize.h"
#include "lib/exec/program.h"
#include "lib/exec/run_once.h"
#include "lib/support/error.h"

namespace tcompress::exec {

namespace {

/// A model's masks and caches come behind what they belong to.
constexpr std::size_t kMostDescribed = 3;

/// A model's plan and what it runs with.
struct ModelRun {
    ModelRun(const ir::Model& modelToRun, const ExecutorOptions& options, Observer* observer, Program::Use use)
        : model(modelToRun), program(prepare(options, observer), profile, observer, use) {}

    PlanGraph prepare(const ExecutorOptions& options, const Observer* observer) {
        PlanGraph graph = preparedGraph(model, options, observer);
        for (ValueId id : graph.inputs) inputs.push_back(graph.value(id).source);
        return graph;
    }

    std::vector<Datum> run(const std::map<std::string, Datum>& feeds);
    std::string describeFeeds(const std::map<std::string, Datum>& feeds) const;

    const ir::Model& model;
    std::vector<const ir::Value*> inputs;
    Allocator allocator;
    Profile profile;
    Program program;
};

void checkFeed(const ir::Value& input, const Datum& fed) {
    const bool takesTensor = !input.type() || input.type()->has_tensor_type();
    if (!takesTensor) return;
    if (!fed.isTensor()) throw DataError(fmt::format("input '{}' is a tensor and was fed none", input.name()));
    const Tensor& feed = fed.tensor;
    const DType expected = input.dtype();
    if (expected != DType::undefined && feed.dtype() != expected) {
        throw DataError(fmt::format("input '{}' is {} and was fed {}", input.name(), name(expected), name(feed.dtype())));
    }
    const std::optional<Shape> shape = input.shape();
    if (shape && static_cast<std::int64_t>(shape->size()) != feed.rank()) {
        throw DataError(fmt::format("input '{}' has shape {} and was fed {}", input.name(), toString(*shape), toString(feed.shape())));
    }
}

/// The shapes that a run which fails may have failed for: " (fed 'input_ids' int64 [6, 128])".
std::string ModelRun::describeFeeds(const std::map<std::string, Datum>& feeds) const {
    std::string text;
    for (std::size_t i = 0; i < inputs.size() && i < kMostDescribed; ++i) {
        const Datum& fed = feeds.at(inputs[i]->name());
        if (fed.isTensor())
            text += fmt::format("{}'{}' {} {}", text.empty() ? "" : ", ", inputs[i]->name(), name(fed.tensor.dtype()),
                                toString(fed.tensor.shape()));
    }
    return text.empty() ? text : fmt::format(" (fed {}{})", text, inputs.size() > kMostDescribed ? " …" : "");
}

std::vector<Datum> ModelRun::run(const std::map<std::string, Datum>& feeds) {
    std::vector<Datum> fed;
    for (const ir::Value* input : inputs) {
        const auto found = feeds.find(input->name());
        if (found == feeds.end()) throw DataError(fmt::format("input '{}' is not fed", input->name()));
        checkFeed(*input, found->second);
        fed.push_back(found->second);
    }
    for (const auto& [name, value] : feeds) {
        const auto isNamed = [&name = name](const ir::Value* value) { return value->name() == name; };
        const auto isAmong = [&](const auto& values) { return std::any_of(values.begin(), values.end(), isNamed); };
        if (!isAmong(inputs) && !isAmong(model.graph().inputs())) throw DataError(fmt::format("the model has no input '{}'", name));
    }
    try {
        return program.run(allocator, std::move(fed));
    } catch (const DataError& error) {
        throw DataError(error.what() + describeFeeds(feeds));
    } catch (const ModelError& error) {
        throw ModelError(error.what() + describeFeeds(feeds));
    } catch (const KernelError& error) {
        throw KernelError(error.what() + describeFeeds(feeds));
    }
}

}  // namespace

struct Executor::Impl : ModelRun {
    using ModelRun::ModelRun;
};

Executor::Executor(const ir::Model& model, ExecutorOptions options, Observer* observer)
    : impl_(std::make_unique<Impl>(model, options, observer, Program::Use::repeated)) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;

std::vector<Tensor> Executor::run(const Feeds& feeds) { return tensorsOf(runData({feeds.begin(), feeds.end()})); }

std::vector<Datum> Executor::runData(const std::map<std::string, Datum>& feeds) { return impl_->run(feeds); }

std::vector<Tensor> runOnce(const ir::Model& model, const Feeds& feeds) {
    return tensorsOf(ModelRun(model, {}, nullptr, Program::Use::once).run({feeds.begin(), feeds.end()}));
}

const std::vector<const ir::Value*>& Executor::inputs() const { return impl_->inputs; }

std::vector<Executor::ProfileRow> Executor::profile() const {
    std::vector<ProfileRow> rows;
    for (const auto& [name, entry] : impl_->profile.entries()) {
        if (entry.calls > 0) rows.push_back({name, "", entry.calls, entry.seconds});
    }
    std::sort(rows.begin(), rows.end(), [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
    return rows;
}

std::size_t Executor::peakArenaBytes() const { return impl_->allocator.peakBytes(); }

std::vector<std::string> unsupportedOperators(const ir::Model& model) {
    std::vector<std::string> found;
    for (const PlanNode& node : planGraphOf(model).nodes) {
        if (!findOperator(node.domain, node.opType(), node.version)) found.push_back(describeNode(node));
    }
    return found;
}

std::vector<Tensor> evaluateNode(const ir::Model& model, const ir::Node& node, std::span<const Tensor> inputs) {
    if (node.hasSubgraph()) return {};
    const OperatorRow* row = findOperator(node.domain(), node.opType(), std::max<std::int64_t>(1, model.opset(node.domain())));
    if (!row) return {};
    PlanGraph graph;
    graph.opsets = opsetsOf(model);
    PlanNode step;
    step.proto = std::shared_ptr<const onnx::NodeProto>(std::shared_ptr<void>(), &node.proto());
    step.domain = node.domain();
    step.version = std::max<std::int64_t>(1, model.opset(node.domain()));
    for (std::size_t i = 0; i < node.inputs().size(); ++i) {
        const bool given = node.inputs()[i] && i < inputs.size() && inputs[i].dtype() != DType::undefined;
        step.inputs.push_back(given ? graph.addConstant(node.inputs()[i]->name(), inputs[i]) : kNoValue);
    }
    step.capturedFrom = step.inputs.size();
    for (const ir::Value* output : node.outputs()) {
        PlanValue value;
        value.kept = output != nullptr;
        step.outputs.push_back(output ? graph.addValue(std::move(value)) : kNoValue);
        if (output) graph.outputs.push_back(step.outputs.back());
    }
    graph.nodes.push_back(std::move(step));
    try {
        Profile profile;
        Allocator allocator;
        const Program program(std::move(graph), profile, nullptr);
        std::vector<Tensor> computed = tensorsOf(program.run(allocator, {}));
        std::vector<Tensor> outputs;
        auto next = computed.begin();
        for (const ir::Value* output : node.outputs()) outputs.push_back(output ? std::move(*next++) : Tensor());
        return outputs;
    } catch (const KernelError&) {
        return {};
    }
}

}  // namespace tcompress::exec
