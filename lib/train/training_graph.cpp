#include "lib/train/training_graph.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "lib/ir/emit.h"
#include "lib/support/check.h"

namespace tcompress::train {
namespace {

ir::Value* number(ir::Edit& edit, double value) { return edit.addInitializer("number", Tensor::scalar(static_cast<float>(value))); }

/// 2·w·(y − t), or w·T·(softmax(y/T) − softmax(t/T)).
ir::Value* cotangent(ir::Edit& edit, const LossTerm& term, ir::Value* y, ir::Value* target, ir::Value* rowWeights) {
    ir::Value *from = y, *to = target;
    double factor = 2;
    if (term.distance == Distance::divergence) {
        const auto softened = [&](ir::Value* logits) {
            return ir::emit(edit, "Softmax", {ir::emit(edit, "Mul", {logits, number(edit, 1 / term.temperature)})}, {{"axis", std::int64_t{-1}}});
        };
        from = softened(y);
        to = softened(target);
        factor = term.temperature;
    }
    ir::Value* difference = ir::emit(edit, "Sub", {from, to});
    return ir::emit(edit, "Mul", {difference, ir::emit(edit, "Mul", {rowWeights, number(edit, factor)})});
}

/// log softmax(x/T) of one row.
std::vector<double> logSoftmax(std::span<const float> row, double temperature) {
    std::vector<double> result(row.begin(), row.end());
    for (double& x : result) x /= temperature;
    const double largest = *std::max_element(result.begin(), result.end());
    double sum = 0;
    for (const double x : result) sum += std::exp(x - largest);
    for (double& x : result) x -= largest + std::log(sum);
    return result;
}

double distanceOf(const LossTerm& term, std::span<const float> y, std::span<const float> t) {
    double distance = 0;
    if (term.distance == Distance::squared) {
        for (std::size_t i = 0; i < y.size(); ++i) distance += std::pow(static_cast<double>(y[i]) - static_cast<double>(t[i]), 2);
        return distance;
    }
    const std::vector<double> from = logSoftmax(t, term.temperature), to = logSoftmax(y, term.temperature);
    for (std::size_t i = 0; i < y.size(); ++i) distance += std::exp(from[i]) * (from[i] - to[i]);
    return distance * term.temperature * term.temperature;
}

}  // namespace

FedConstants withFedConstants(const ir::Model& model, const std::vector<std::string>& constants) {
    FedConstants result{model.clone(), {}};
    ir::Edit edit(result.model, "train");
    for (const std::string& name : constants) {
        ir::Value* constant = result.model.graph().find(name);
        TCOMPRESS_CHECK(constant != nullptr && constant->constant() != nullptr, "what is learnt is a constant");
        ir::Value* fed = ir::emit(edit, "Identity", {constant}, {}, "parameter");
        edit.replaceAllUses(constant, fed, {fed->producer()});
        result.values[name] = fed->name();
    }
    edit.commit();
    return result;
}

TrainingGraph trainingGraph(const ir::Model& model, const std::vector<std::string>& constants, const std::vector<LossTerm>& terms,
                            const exec::Feeds& feeds) {
    FedConstants fed = withFedConstants(model, constants);
    std::vector<std::string> values, of;
    for (const LossTerm& term : terms) values.push_back(term.value);
    for (const auto& [constant, value] : fed.values) of.push_back(value);
    GradientModel backward = withGradients(fed.model, values, of, seenValues(fed.model, feeds));
    TrainingGraph result{std::move(backward.model), std::move(fed.values), {}, {}, {}};
    for (const auto& [constant, value] : result.parameters)
        if (const auto found = backward.gradients.find(value); found != backward.gradients.end()) result.gradients[constant] = found->second;

    const ir::Graph& graph = result.model.graph();
    ir::Edit edit(result.model, "train");
    for (const LossTerm& term : terms) {
        const auto found = backward.cotangents.find(term.value);
        result.targets.emplace_back();
        result.rowWeights.emplace_back();
        if (found == backward.cotangents.end()) continue;
        ir::Value* y = graph.find(term.value);
        ir::Value* target = ir::emit(edit, "Identity", {y}, {}, "target");
        ir::Value* rowWeights = ir::emit(edit, "Identity", {y}, {}, "row_weights");
        edit.replaceAllUses(graph.find(found->second), cotangent(edit, term, y, target, rowWeights));
        result.targets.back() = target->name();
        result.rowWeights.back() = rowWeights->name();
    }
    edit.commit();
    return result;
}

double lossOf(const LossTerm& term, const Tensor& value, const Tensor& target, const Tensor& rowWeights) {
    const std::span<const float> y = value.data<float>(), t = target.data<float>(), weights = rowWeights.data<float>();
    const std::size_t channels = weights.empty() ? 0 : y.size() / weights.size();
    double loss = 0;
    for (std::size_t row = 0; row < weights.size(); ++row) {
        if (weights[row] == 0) continue;
        const double distance = distanceOf(term, y.subspan(row * channels, channels), t.subspan(row * channels, channels));
        if (!std::isfinite(distance)) return std::numeric_limits<double>::infinity();
        loss += static_cast<double>(weights[row]) * distance;
    }
    return loss;
}

}  // namespace tcompress::train
