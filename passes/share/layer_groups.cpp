#include "passes/share/layer_groups.h"

#include <algorithm>
#include <limits>
#include <map>

#include "lib/calibration/collector.h"
#include "lib/calibration/similarity.h"

namespace tcompress::passes {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

ir::Value* twin(ir::Model& model, const ir::Value* value) { return model.graph().find(value->name()); }

/// Error of `to`'s output with the weights of `from`.
double errorWith(const ir::Model& model, const BranchWeights& to, const BranchWeights& from,
                 const data::Dataset& samples, const calibration::Environment& environment) {
    ir::Model trial = model.clone();
    ir::Edit edit(trial, "functional distance");
    const auto copy = [&](const ir::Value* target, const ir::Value* source) {
        edit.setConstant(twin(trial, target), source->constant()->reshaped(target->constant()->shape()));
    };
    for (std::size_t up = 0; up < to.ups.size(); ++up) {
        copy(to.ups[up].weight->constant, from.ups[up].weight->constant);
        if (biasFit(to.ups[up].site()) == BiasFit::fitted) copy(to.ups[up].site().bias, from.ups[up].site().bias);
    }
    copy(to.down->constant, from.down->constant);
    edit.commit();
    calibration::Collector collector(model, trial);
    const auto& sums = collector.add<calibration::SimilaritySums>(
        calibration::Source{to.downSite().output, calibration::Side::original},
        calibration::Source{twin(trial, to.downSite().output), calibration::Side::edited});
    collector.run(samples, environment.progress, environment.resources);
    return sums.result().relativeError();
}

double within(const LayerGroup& group, const std::vector<double>& distances, std::size_t layers) {
    double sum = 0;
    for (std::size_t i = 0; i < group.size(); ++i)
        for (std::size_t j = i + 1; j < group.size(); ++j) sum += distances[group[i] * layers + group[j]];
    return sum;
}

std::vector<LayerGroup> inRuns(const LayerGroup& layers, std::size_t size) {
    std::vector<LayerGroup> groups;
    for (const std::size_t layer : layers) {
        if (groups.empty() || groups.back().size() == size) groups.emplace_back();
        groups.back().push_back(layer);
    }
    return groups;
}

}  // namespace

std::vector<double> functionalDistances(const ir::Model& model, const std::vector<BranchWeights>& layers,
                                        const data::Dataset& samples, const calibration::Environment& environment) {
    const std::size_t n = layers.size();
    std::vector<double> distances(n * n);
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = a + 1; b < n; ++b) {
            double distance = kInfinity;
            if (layers[a].kind == layers[b].kind)
                distance = 0.5 * (errorWith(model, layers[a], layers[b], samples, environment) +
                                  errorWith(model, layers[b], layers[a], samples, environment));
            distances[a * n + b] = distances[b * n + a] = distance;
        }
    return distances;
}

std::vector<LayerGroup> nearestGroups(const std::vector<double>& distances, std::size_t layers, std::size_t size) {
    LayerGroup all(layers);
    for (std::size_t i = 0; i < layers; ++i) all[i] = i;
    std::vector<LayerGroup> groups = inRuns(all, size);
    const auto cost = [&](const LayerGroup& group) { return within(group, distances, layers); };
    const auto improves = [&](LayerGroup& first, LayerGroup& second) {
        for (std::size_t& a : first)
            for (std::size_t& b : second) {
                const double before = cost(first) + cost(second);
                std::swap(a, b);
                if (cost(first) + cost(second) < before) return true;
                std::swap(a, b);
            }
        return false;
    };
    for (bool moved = true; moved;) {
        moved = false;
        for (std::size_t i = 0; i < groups.size(); ++i)
            for (std::size_t j = i + 1; j < groups.size(); ++j) moved = improves(groups[i], groups[j]) || moved;
    }
    for (LayerGroup& group : groups) std::sort(group.begin(), group.end());
    std::sort(groups.begin(), groups.end());
    return groups;
}

std::vector<LayerGroup> neighbours(const std::vector<BranchWeights>& layers, std::size_t size) {
    std::map<std::string, LayerGroup> kinds;
    for (std::size_t i = 0; i < layers.size(); ++i) kinds[layers[i].kind].push_back(i);
    std::vector<LayerGroup> groups;
    for (const auto& [kind, members] : kinds) {
        const std::vector<LayerGroup> runs = inRuns(members, size);
        groups.insert(groups.end(), runs.begin(), runs.end());
    }
    std::sort(groups.begin(), groups.end());
    return groups;
}

}  // namespace tcompress::passes
