#include "passes/share/feed_forward_weights.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "kernels/linalg.h"
#include "passes/support/structure.h"

namespace tcompress::passes {
namespace {

using analysis::FeedForward;
using analysis::Site;
using analysis::TransformerView;

/// The bias that is added to a layer's output, wherever that happens.
std::vector<double> fullBias(const Site& site) {
    std::vector<double> bias(static_cast<std::size_t>(site.outFeatures));
    if (biasFit(site) == BiasFit::kept) return bias;
    const auto values = site.bias->constant()->data<float>();
    const bool isInside = site.biasNode == nullptr && site.node->is("Gemm");
    const double scale = isInside ? site.node->attributeFloat("beta", 1.0f) : 1.0;
    for (std::size_t o = 0; o < bias.size(); ++o) bias[o] = scale * values[o];
    return bias;
}

const TargetWeight* weightOf(const Site& site, const std::vector<TargetWeight>& weights, std::string& refusal) {
    for (const TargetWeight& weight : weights)
        if (std::find(weight.sites.begin(), weight.sites.end(), &site) != weight.sites.end()) {
            refusal = refitRefusal(weight);
            if (refusal.empty() && weight.sites.size() > 1) refusal = "its weights are shared already";
            return refusal.empty() ? &weight : nullptr;
        }
    refusal = fmt::format("the weights of '{}' are no float32 matrix of its own", site.name);
    return nullptr;
}

/// For each neuron the positions of a weight's axis that are its own.
std::vector<std::vector<std::int64_t>> positionsOf(const TransformerView& view, const Site& site, std::size_t axis,
                                                   analysis::AtomId leaf) {
    std::vector<std::vector<std::int64_t>> result(static_cast<std::size_t>(view.axes->store->leafSize(leaf)));
    const auto positions = leafPositions(*view.axes->store, view.axes->axes.at(site.weight).at(axis), leaf);
    for (std::size_t i = 0; i < positions.size(); ++i)
        if (positions[i] >= 0)
            result[static_cast<std::size_t>(positions[i])].push_back(static_cast<std::int64_t>(i));
    return result;
}

std::string describeSite(const Site& site, const std::vector<std::vector<std::int64_t>>& positions) {
    return fmt::format("{} {} {} {} {} {} {} {:a}", site.node->opType(), site.inFeatures, site.outFeatures, site.inAxis,
                       fmt::join(positions.front(), "+"), fmt::join(positions.back(), "+"),
                       static_cast<int>(biasFit(site)), site.node->attributeFloat("alpha", 1.0f));
}

/// Whether a later neuron's positions all lie behind an earlier one's: then two layers with the same first and last have
/// all of them alike.
bool isAscending(const std::vector<std::vector<std::int64_t>>& positions) {
    for (std::size_t p = 1; p < positions.size(); ++p)
        for (std::size_t k = 0; k < positions[p].size(); ++k)
            if (positions[p].size() != positions[p - 1].size() || positions[p][k] <= positions[p - 1][k]) return false;
    return true;
}

std::string read(const TransformerView& view, const std::vector<TargetWeight>& weights, FeedForwardWeights& result) {
    const FeedForward& layer = view.feedForward[result.layer];
    if (!layer.refusals.empty()) return fmt::format("{}", fmt::join(layer.refusals, "; "));
    if (layer.widthLeaves.size() != 1) return "its hidden axis is split into several axes";
    if (layer.down.size() != 1) return "it has several down projections";
    std::string refusal;
    const analysis::AtomId leaf = layer.widthLeaves.front();
    // The gate first: what one layer calls gate must meet what the other calls gate.
    std::vector<std::size_t> ups = layer.up;
    std::stable_partition(ups.begin(), ups.end(), [&](std::size_t site) {
        return std::find(layer.gate.begin(), layer.gate.end(), site) != layer.gate.end();
    });
    result.kind = fmt::format("{} {}", name(layer.activation), layer.gated);
    for (const std::size_t index : ups) {
        const Site& site = view.sites[index];
        UpWeights up;
        up.weight = weightOf(site, weights, refusal);
        if (up.weight == nullptr) return refusal;
        up.columns = positionsOf(view, site, site.outAxis, leaf);
        if (!isAscending(up.columns)) return "its neurons are in no plain order";
        up.now = readLayer(site);
        up.now.bias = fullBias(site);
        result.kind += " | " + describeSite(site, up.columns);
        result.ups.push_back(std::move(up));
    }
    const Site& down = view.sites[layer.down.front()];
    result.down = weightOf(down, weights, refusal);
    if (result.down == nullptr) return refusal;
    const auto rows = positionsOf(view, down, down.inAxis, leaf);
    if (!isAscending(rows)) return "its neurons are in no plain order";
    for (const auto& own : rows) {
        if (own.size() != 1) return "its down projection reads a neuron in several places";
        result.rows.push_back(own.front());
    }
    result.downNow = readLayer(down);
    result.residualAdd = layer.residualAdd;
    result.kind += " | " + describeSite(down, rows);
    return {};
}

}  // namespace

std::vector<FeedForwardWeights> feedForwardWeights(const TransformerView& view,
                                                   const std::vector<TargetWeight>& weights,
                                                   const std::vector<std::size_t>& layers,
                                                   pipeline::PassReport& report) {
    std::vector<FeedForwardWeights> result;
    for (const std::size_t index : layers) {
        const FeedForward& layer = view.feedForward[index];
        FeedForwardWeights one;
        one.layer = index;
        one.name = layer.down.empty() ? fmt::format("feed-forward {}", index) : view.sites[layer.down.front()].name;
        if (std::string refusal = read(view, weights, one); refusal.empty())
            result.push_back(std::move(one));
        else
            report.skipped.push_back({one.name, refusal});
    }
    return result;
}

LinearLayer plannedUp(const std::vector<FeedForwardWeights>& layers, std::size_t up, const NeuronPlan& plan) {
    const UpWeights& first = layers.front().ups[up];
    const std::size_t outputs = first.now.bias.size(), inputs = first.now.weight.size() / outputs;
    LinearLayer result{std::vector<double>(first.now.weight.size()), std::vector<double>(outputs)};
    for (std::size_t p = 0; p < plan.size(); ++p)
        for (const NeuronSource& source : plan[p]) {
            const UpWeights& from = layers[source.layer].ups[up];
            const auto& columns = from.columns[static_cast<std::size_t>(source.neuron)];
            const double share = 1.0 / static_cast<double>(plan[p].size());
            for (std::size_t k = 0; k < columns.size(); ++k) {
                const auto to = static_cast<std::size_t>(first.columns[p][k]), at = static_cast<std::size_t>(columns[k]);
                for (std::size_t i = 0; i < inputs; ++i)
                    result.weight[i * outputs + to] += share * from.now.weight[i * outputs + at];
                result.bias[to] += share * from.now.bias[at];
            }
        }
    return result;
}

std::vector<double> plannedDown(const std::vector<FeedForwardWeights>& layers, const NeuronPlan& plan) {
    const FeedForwardWeights& first = layers.front();
    const auto outputs = static_cast<std::size_t>(first.outputs());
    std::vector<double> result(first.downNow.weight.size());
    for (std::size_t p = 0; p < plan.size(); ++p)
        for (const NeuronSource& source : plan[p]) {
            const FeedForwardWeights& from = layers[source.layer];
            const auto to = static_cast<std::size_t>(first.rows[p]);
            const auto at = static_cast<std::size_t>(from.rows[static_cast<std::size_t>(source.neuron)]);
            for (std::size_t o = 0; o < outputs; ++o)
                result[to * outputs + o] +=
                    from.downNow.weight[at * outputs + o] / static_cast<double>(plan[p].size());
        }
    return result;
}

namespace {

/// Adds the products of the rows of two matrices of neurons, each divided by their root mean square norm.
void addProducts(const std::vector<double>& a, const std::vector<double>& b, std::int64_t neurons,
                 std::vector<double>& sum) {
    const auto values = static_cast<std::int64_t>(a.size()) / neurons;
    const auto norm = [&](const std::vector<double>& matrix) {
        double squares = 0;
        for (const double value : matrix) squares += value * value;
        return std::sqrt(squares / static_cast<double>(neurons)) + 1e-300;
    };
    std::vector<double> products(sum.size());
    kernels::gemm(kernels::Transposition::no, kernels::Transposition::yes, neurons, neurons, values, a, b, products);
    const double scale = 1 / (norm(a) * norm(b));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += scale * products[i];
}

/// Neuron by neuron what makes it: its columns and biases.
std::vector<double> byNeuron(const UpWeights& up) {
    const std::size_t outputs = up.now.bias.size(), inputs = up.now.weight.size() / outputs;
    std::vector<double> result;
    for (const auto& columns : up.columns)
        for (const std::int64_t column : columns) {
            const auto at = static_cast<std::size_t>(column);
            for (std::size_t i = 0; i < inputs; ++i) result.push_back(up.now.weight[i * outputs + at]);
            result.push_back(up.now.bias[at]);
        }
    return result;
}

std::vector<double> byNeuron(const FeedForwardWeights& layer) {
    const std::int64_t outputs = layer.outputs();
    std::vector<double> result;
    for (const std::int64_t row : layer.rows)
        result.insert(result.end(), layer.downNow.weight.begin() + row * outputs,
                      layer.downNow.weight.begin() + (row + 1) * outputs);
    return result;
}

}  // namespace

std::vector<double> neuronSimilarity(const FeedForwardWeights& a, const FeedForwardWeights& b) {
    const std::int64_t neurons = a.width();
    std::vector<double> sum(static_cast<std::size_t>(neurons * neurons));
    for (std::size_t up = 0; up < a.ups.size(); ++up) addProducts(byNeuron(a.ups[up]), byNeuron(b.ups[up]), neurons, sum);
    addProducts(byNeuron(a), byNeuron(b), neurons, sum);
    return sum;
}

void writeUp(ir::Edit& edit, UpWeights& up, LinearLayer weights) {
    writeLayer(edit, *up.weight, up.now, weights);
    up.now = std::move(weights);
}

void writeDown(ir::Edit& edit, FeedForwardWeights& layer, LinearLayer weights) {
    writeLayer(edit, *layer.down, layer.downNow, weights);
    layer.downNow = std::move(weights);
}

}  // namespace tcompress::passes
