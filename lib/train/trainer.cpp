#include "lib/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/tensor/finite.h"

namespace tcompress::train {
namespace {

std::vector<const ir::Value*> valuesOf(const ir::Graph& graph, const std::map<std::string, std::string>& names) {
    std::vector<const ir::Value*> values;
    for (const auto& [key, name] : names) values.push_back(graph.find(name));
    return values;
}

bool isFinite(const Tensor& tensor) { return allFinite(tensor.data<float>()); }

}  // namespace

struct Trainer::Batch {
    const TrainingGraph& graph;
    std::unique_ptr<exec::Executor> executor;

    Batch(const TrainingGraph& itsGraph, const std::vector<LossTerm>& terms) : graph(itsGraph) {
        const ir::Graph& nodes = graph.model.graph();
        std::vector<const ir::Value*> inputs = valuesOf(nodes, graph.parameters), outputs;
        for (std::size_t i = 0; i < terms.size(); ++i) {
            outputs.push_back(nodes.find(terms[i].value));
            if (graph.targets[i].empty()) continue;
            inputs.push_back(nodes.find(graph.targets[i]));
            inputs.push_back(nodes.find(graph.rowWeights[i]));
        }
        const std::vector<const ir::Value*> gradients = valuesOf(nodes, graph.gradients);
        outputs.insert(outputs.end(), gradients.begin(), gradients.end());
        executor = std::make_unique<exec::Executor>(graph.model, exec::ExecutorOptions{.inputs = inputs, .outputs = outputs});
    }
};

Trainer::Trainer(const ir::Model& model, std::vector<std::string> constants, std::vector<LossTerm> terms, std::map<std::string, Zeros> zeros)
    : model_(model),
      constants_(std::move(constants)),
      terms_(std::move(terms)),
      zeros_(std::move(zeros)),
      forward_(withFedConstants(model, constants_)) {
    restart();
    std::vector<const ir::Value*> outputs;
    for (const LossTerm& term : terms_) outputs.push_back(forward_.model.graph().find(term.value));
    forwardExecutor_ = std::make_unique<exec::Executor>(
        forward_.model, exec::ExecutorOptions{.inputs = valuesOf(forward_.model.graph(), forward_.values), .outputs = outputs});
}

Trainer::~Trainer() = default;

void Trainer::restart() {
    states_.clear();
    for (const std::string& name : constants_) {
        weights_[name] = *model_.graph().find(name)->constant();
        const auto found = zeros_.find(name);
        states_.emplace(name, Adam(found == zeros_.end() ? Zeros::learn : found->second));
    }
}

exec::Feeds Trainer::withWeights(const exec::Feeds& feeds, const std::map<std::string, std::string>& names) const {
    exec::Feeds all = feeds;
    for (const auto& [constant, fed] : names) all[fed] = weights_.at(constant);
    return all;
}

Trainer::Batch& Trainer::batchFor(const exec::Feeds& feeds) {
    std::vector<Shape> shapes;
    for (const auto& [name, tensor] : feeds) shapes.push_back(tensor.shape());
    auto found = graphs_.find(shapes);
    if (found == graphs_.end()) found = graphs_.emplace(std::move(shapes), trainingGraph(model_, constants_, terms_, feeds)).first;
    if (batch_ == nullptr || &batch_->graph != &found->second) {
        // One at a time: a plan is made in little of a step's time, and its buffers take as much as the weights.
        batch_.reset();
        batch_ = std::make_unique<Batch>(found->second, terms_);
    }
    return *batch_;
}

double Trainer::step(const exec::Feeds& feeds, const Targets& targets, double rate) {
    Batch& batch = batchFor(feeds);
    exec::Feeds all = withWeights(feeds, batch.graph.parameters);
    for (std::size_t i = 0; i < terms_.size(); ++i) {
        if (batch.graph.targets[i].empty()) continue;
        all[batch.graph.targets[i]] = targets.values[i];
        all[batch.graph.rowWeights[i]] = targets.rowWeights[i];
    }
    const std::vector<Tensor> results = batch.executor->run(all);
    all.clear();  // else the weights would be shared, and copied when they are written to
    double loss = 0;
    for (std::size_t i = 0; i < terms_.size(); ++i) loss += lossOf(terms_[i], results[i], targets.values[i], targets.rowWeights[i]);
    const std::span<const Tensor> gradients(results.begin() + static_cast<std::ptrdiff_t>(terms_.size()), results.end());
    if (!std::isfinite(loss) || !std::all_of(gradients.begin(), gradients.end(), isFinite)) return std::numeric_limits<double>::infinity();
    auto gradient = gradients.begin();
    for (const auto& [constant, name] : batch.graph.gradients)
        states_.at(constant).step(weights_.at(constant).mutableData<float>(), (gradient++)->data<float>(), rate);
    return loss;
}

std::vector<Tensor> Trainer::values(const exec::Feeds& feeds) { return forwardExecutor_->run(withWeights(feeds, forward_.values)); }

}  // namespace tcompress::train
