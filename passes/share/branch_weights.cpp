#include "passes/share/branch_weights.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/linalg.h"
#include "passes/support/structure.h"

namespace tcompress::passes {
namespace {

using analysis::AttentionLayer;
using analysis::FeedForward;
using analysis::Site;
using analysis::TransformerView;

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

/// For each unit the positions of a weight's axis that are its own; without a leaf there is one unit.
std::vector<std::vector<std::int64_t>> positionsOf(const TransformerView& view, const Site& site, std::size_t axis,
                                                   analysis::AtomId leaf) {
    if (leaf < 0) {
        std::vector<std::int64_t> all(static_cast<std::size_t>(axis == site.inAxis ? site.inFeatures : site.outFeatures));
        std::iota(all.begin(), all.end(), 0);
        return {all};
    }
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

/// Whether a later unit's positions all lie behind an earlier one's: then two layers with the same first and last have
/// all of them alike.
bool isAscending(const std::vector<std::vector<std::int64_t>>& positions) {
    for (std::size_t p = 1; p < positions.size(); ++p)
        for (std::size_t k = 0; k < positions[p].size(); ++k)
            if (positions[p].size() != positions[p - 1].size() || positions[p][k] <= positions[p - 1][k]) return false;
    return true;
}

/// A layer as the sites that make its units, the one that reads them, and the axis that they are.
struct Branch {
    std::vector<std::size_t> ups, downs;
    analysis::AtomId leaf = -1;
    const ir::Node* residualAdd = nullptr;
    std::string kind;     ///< what else must be equal for two to be of a kind
    std::string refusal;
};

Branch feedForwardBranch(const FeedForward& layer) {
    Branch branch{layer.up, layer.down, -1, layer.residualAdd, fmt::format("{} {}", name(layer.activation), layer.gated), {}};
    // The gate first: what one layer calls gate must meet what the other calls gate.
    std::stable_partition(branch.ups.begin(), branch.ups.end(), [&](std::size_t site) {
        return std::find(layer.gate.begin(), layer.gate.end(), site) != layer.gate.end();
    });
    if (!layer.refusals.empty()) branch.refusal = fmt::format("{}", fmt::join(layer.refusals, "; "));
    else if (layer.widthLeaves.size() != 1) branch.refusal = "its hidden axis is split into several axes";
    else branch.leaf = layer.widthLeaves.front();
    return branch;
}

/// Whether the scores of a layer get something of each head's own, which heads of another layer would not be used to.
bool hasBiasOfHeads(const TransformerView& view, const AttentionLayer& layer) {
    const analysis::AxisStore& store = *view.axes->store;
    return std::any_of(view.axes->weakLinks.begin(), view.axes->weakLinks.end(), [&](const analysis::WeakLink& link) {
        const auto leaves = store.leaves(link.scoreAxes);
        return std::find(leaves.begin(), leaves.end(), store.representative(layer.groupLeaf)) != leaves.end() && !link.sideAxes.empty();
    });
}

Branch attentionBranch(const TransformerView& view, const AttentionLayer& layer) {
    Branch branch{{}, layer.o, layer.groupLeaf, layer.residualAdd,
                  fmt::format("{} {} {} {} {}", layer.heads, layer.kvHeads, layer.headDim, layer.valueDim, layer.cross), {}};
    for (const auto* sites : {&layer.q, &layer.k, &layer.v})
        for (const std::size_t site : *sites)
            if (std::find(branch.ups.begin(), branch.ups.end(), site) == branch.ups.end()) branch.ups.push_back(site);
    // Why single heads cannot go is no matter where the layer is one unit.
    if (layer.groupLeaf < 0) return branch;
    if (!layer.refusals.empty()) branch.refusal = fmt::format("{}", fmt::join(layer.refusals, "; "));
    else if (hasBiasOfHeads(view, layer)) branch.refusal = "its scores get a bias of each head's own";
    return branch;
}

std::string read(const TransformerView& view, const std::vector<TargetWeight>& weights, const Branch& branch, BranchWeights& result) {
    if (!branch.refusal.empty()) return branch.refusal;
    if (branch.downs.size() != 1) return "it has several down projections";
    std::string refusal;
    result.kind = branch.kind;
    for (const std::size_t index : branch.ups) {
        const Site& site = view.sites[index];
        UpWeights up;
        up.weight = weightOf(site, weights, refusal);
        if (up.weight == nullptr) return refusal;
        up.columns = positionsOf(view, site, site.outAxis, branch.leaf);
        if (!isAscending(up.columns)) return "its units are in no plain order";
        up.now = readLayer(site);
        up.now.bias = wholeBias(site);
        result.kind += " | " + describeSite(site, up.columns);
        result.ups.push_back(std::move(up));
    }
    const Site& down = view.sites[branch.downs.front()];
    result.down = weightOf(down, weights, refusal);
    if (result.down == nullptr) return refusal;
    result.rows = positionsOf(view, down, down.inAxis, branch.leaf);
    if (!isAscending(result.rows)) return "its units are in no plain order";
    result.downNow = readLayer(down);
    result.residualAdd = branch.residualAdd;
    result.kind += " | " + describeSite(down, result.rows);
    return {};
}

}  // namespace

std::vector<BranchWeights> branchWeights(const TransformerView& view, BranchPart part, const std::vector<TargetWeight>& weights,
                                         const std::vector<std::size_t>& layers, pipeline::PassReport& report) {
    std::vector<BranchWeights> result;
    for (const std::size_t index : layers) {
        const bool isAttention = part == BranchPart::attention;
        const Branch branch = isAttention ? attentionBranch(view, view.attention[index]) : feedForwardBranch(view.feedForward[index]);
        BranchWeights one;
        one.layer = index;
        one.name = !branch.downs.empty() ? view.sites[branch.downs.front()].name
                                         : fmt::format("{} {}", isAttention ? "attention" : "feed-forward", index);
        if (std::string refusal = read(view, weights, branch, one); refusal.empty())
            result.push_back(std::move(one));
        else
            report.skipped.push_back({one.name, refusal});
    }
    return result;
}

LinearLayer plannedUp(const std::vector<BranchWeights>& layers, std::size_t up, const UnitPlan& plan) {
    const UpWeights& first = layers.front().ups[up];
    const std::size_t outputs = first.now.bias.size(), inputs = first.now.weight.size() / outputs;
    LinearLayer result{std::vector<double>(first.now.weight.size()), std::vector<double>(outputs)};
    for (std::size_t p = 0; p < plan.size(); ++p)
        for (const UnitSource& source : plan[p]) {
            const UpWeights& from = layers[source.layer].ups[up];
            const auto& columns = from.columns[static_cast<std::size_t>(source.unit)];
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

std::vector<double> plannedDown(const std::vector<BranchWeights>& layers, const UnitPlan& plan) {
    const BranchWeights& first = layers.front();
    const auto outputs = static_cast<std::size_t>(first.outputs());
    std::vector<double> result(first.downNow.weight.size());
    for (std::size_t p = 0; p < plan.size(); ++p)
        for (const UnitSource& source : plan[p]) {
            const BranchWeights& from = layers[source.layer];
            const auto& rows = from.rows[static_cast<std::size_t>(source.unit)];
            for (std::size_t k = 0; k < rows.size(); ++k) {
                const auto to = static_cast<std::size_t>(first.rows[p][k]), at = static_cast<std::size_t>(rows[k]);
                for (std::size_t o = 0; o < outputs; ++o)
                    result[to * outputs + o] += from.downNow.weight[at * outputs + o] / static_cast<double>(plan[p].size());
            }
        }
    return result;
}

namespace {

/// Adds the products of the rows of two matrices of units, each divided by their root mean square norm.
void addProducts(const std::vector<double>& a, const std::vector<double>& b, std::int64_t units,
                 std::vector<double>& sum) {
    const auto values = static_cast<std::int64_t>(a.size()) / units;
    const auto norm = [&](const std::vector<double>& matrix) {
        double squares = 0;
        for (const double value : matrix) squares += value * value;
        return std::sqrt(squares / static_cast<double>(units)) + 1e-300;
    };
    std::vector<double> products(sum.size());
    kernels::gemm(kernels::Transposition::no, kernels::Transposition::yes, units, units, values, a, b, products);
    const double scale = 1 / (norm(a) * norm(b));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += scale * products[i];
}

/// Unit by unit what makes it: its columns and biases.
std::vector<double> byUnit(const UpWeights& up) {
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

std::vector<double> byUnit(const BranchWeights& layer) {
    const std::int64_t outputs = layer.outputs();
    std::vector<double> result;
    for (const auto& rows : layer.rows)
        for (const std::int64_t row : rows)
            result.insert(result.end(), layer.downNow.weight.begin() + row * outputs,
                          layer.downNow.weight.begin() + (row + 1) * outputs);
    return result;
}

}  // namespace

std::vector<double> unitSimilarity(const BranchWeights& a, const BranchWeights& b) {
    const std::int64_t units = a.units();
    std::vector<double> sum(static_cast<std::size_t>(units * units));
    for (std::size_t up = 0; up < a.ups.size(); ++up) addProducts(byUnit(a.ups[up]), byUnit(b.ups[up]), units, sum);
    addProducts(byUnit(a), byUnit(b), units, sum);
    return sum;
}

void writeUp(ir::Edit& edit, UpWeights& up, LinearLayer weights) {
    writeLayer(edit, *up.weight, up.now, weights);
    up.now = std::move(weights);
}

void writeDown(ir::Edit& edit, BranchWeights& layer, LinearLayer weights) {
    writeLayer(edit, *layer.down, layer.downNow, weights);
    layer.downNow = std::move(weights);
}

}  // namespace tcompress::passes
