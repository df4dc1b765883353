// Makes attention heads smaller: queries and keys, and values and output projections, meet only in products along the size of
// a head, so each pair gets the basis that puts first what the product needs most on the data, and the last positions go.
//
//   Q K V [d, 12·32]  O [12·32, d]   →   Q K [d, 12·16]  V [d, 12·24]  O [12·24, d]
//
// All shapes shrink, key-value caches included; the number of heads stays. Every head of a layer gets the same size, chosen as
// a share. Before anything is cut the model with the new bases must give what it gave (head_basis.h: it does so exactly),
// which finds whatever looks at single positions of a head between the projections and the products.
// Not handled: rotary positions and normalized queries (refused), several queries for one key (refused).

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "lib/analysis/shrink.h"
#include "lib/support/error.h"
#include "passes/low_rank/head_basis.h"
#include "passes/passes.h"
#include "passes/support/compensation.h"
#include "passes/support/evidence.h"
#include "passes/support/layer_weights.h"

namespace tcompress::passes {
namespace {

using analysis::AtomId;
using analysis::AttentionLayer;
using analysis::Site;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "low-rank/attention";

struct Options {
    double keep = 0.5;
    std::optional<double> keepValues;
    std::int64_t multiple = 8;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("keep", &Options::keep, "share of a head's size that queries and keys keep, and values without keep_values; 1 leaves them whole")
        .range(0, 1)
        .option("keep_values", &Options::keepValues, "share of a head's size that values keep")
        .range(0, 1)
        .option("multiple", &Options::multiple, "sizes are rounded up to a multiple of this: matrix kernels like multiples of 8")
        .range(1, 4096)
        .option("targets", &Options::targets, "layers to work on, by patterns over their output projection")
        .option("ignore", &Options::ignore, "layers to leave alone, by patterns over their output projection");
    return table;
}

/// A projection, maybe a part of a fused one, and where its heads lie.
struct Projection {
    const TargetWeight* weight = nullptr;
    std::vector<std::vector<std::int64_t>> places;  ///< [head][position] of the axis along heads

    const Site& site() const { return *weight->sites.front(); }
    std::int64_t outputs() const { return site().outFeatures; }
};

/// What one layer is cut to.
struct Plan {
    const AttentionLayer* layer = nullptr;
    std::string name;
    Projection q, k, v, o;
    /// Of each weight what the model has; of Q, K and V with the bias wherever it is added.
    std::map<const TargetWeight*, LinearLayer> weights;
    AtomId keyLeaf = -1, valueLeaf = -1;
    std::int64_t keySize = 0, valueSize = 0;
    double keyError = 0, valueError = 0;
};

const TargetWeight* weightOf(const Site& site, const std::vector<TargetWeight>& weights) {
    for (const TargetWeight& weight : weights)
        if (weight.sites.size() == 1 && weight.sites.front() == &site && refitRefusal(weight).empty()) return &weight;
    return nullptr;
}

/// [head][position] of a weight's axis, or of one of its parts; empty when some place belongs to no head.
std::vector<std::vector<std::int64_t>> placesOf(const TransformerView& view, const Site& site, std::size_t axis, AtomId heads,
                                                AtomId positions, std::optional<std::size_t> part) {
    const analysis::AxisStore& store = *view.axes->store;
    analysis::Axis own = view.axes->axes.at(site.weight).at(axis);
    std::int64_t offset = 0;
    if (part) {
        const std::vector<analysis::Axis> parts = store.parts(own);
        if (parts.size() != 3) return {};
        for (std::size_t i = 0; i < *part; ++i) offset += store.size(parts[i]);
        own = parts[*part];
    }
    const auto position = leafPositions(store, own, positions);
    const std::vector<std::int64_t> head =
        heads < 0 ? std::vector<std::int64_t>(position.size(), 0) : leafPositions(store, own, heads);
    const std::int64_t count = heads < 0 ? 1 : store.leafSize(heads);
    std::vector<std::vector<std::int64_t>> places(static_cast<std::size_t>(count),
                                                  std::vector<std::int64_t>(static_cast<std::size_t>(store.leafSize(positions)), -1));
    for (std::size_t i = 0; i < position.size(); ++i)
        if (position[i] >= 0 && head[i] >= 0)
            places[static_cast<std::size_t>(head[i])][static_cast<std::size_t>(position[i])] = offset + static_cast<std::int64_t>(i);
    for (const auto& one : places)
        if (std::find(one.begin(), one.end(), -1) != one.end()) return {};
    return places;
}

/// Σ of a head's values' products: of what the projection gives, bias included.
std::vector<double> outputMoment(const LayerSums& sums, const LinearLayer& layer, const std::vector<std::int64_t>& places) {
    const std::size_t size = places.size(), outputs = layer.bias.size();
    const auto inputs = static_cast<std::size_t>(sums.inputs);
    // The head's columns with the bias as the weights of a constant input.
    std::vector<double> own, weighted((inputs + 1) * size);
    for (std::size_t i = 0; i < inputs; ++i)
        for (const std::int64_t place : places) own.push_back(layer.weight[i * outputs + static_cast<std::size_t>(place)]);
    for (const std::int64_t place : places) own.push_back(layer.bias[static_cast<std::size_t>(place)]);
    for (std::size_t i = 0; i <= inputs; ++i)
        for (std::size_t j = 0; j <= inputs; ++j) {
            const double sum = i < inputs && j < inputs ? sums.xx[i * inputs + j] : i < inputs ? sums.x[i] : j < inputs ? sums.x[j] : sums.rows;
            for (std::size_t p = 0; p < size; ++p) weighted[i * size + p] += sum * own[j * size + p];
        }
    std::vector<double> moment(size * size);
    for (std::size_t i = 0; i <= inputs; ++i)
        for (std::size_t p = 0; p < size; ++p)
            for (std::size_t r = 0; r < size; ++r) moment[p * size + r] += own[i * size + p] * weighted[i * size + r];
    return moment;
}

/// Σ of the products of some inputs.
std::vector<double> inputMoment(const LayerSums& sums, const std::vector<std::int64_t>& places) {
    std::vector<double> moment;
    for (const std::int64_t row : places)
        for (const std::int64_t column : places) moment.push_back(sums.xx[static_cast<std::size_t>(row * sums.inputs + column)]);
    return moment;
}

/// Columns `places` of weights and bias times a matrix.
void turnColumns(LinearLayer& layer, const std::vector<std::int64_t>& places, const std::vector<double>& by) {
    const std::size_t size = places.size(), outputs = layer.bias.size();
    const auto turn = [&](double* row) {
        std::vector<double> turned(size);
        for (std::size_t p = 0; p < size; ++p)
            for (std::size_t r = 0; r < size; ++r) turned[r] += row[places[p]] * by[p * size + r];
        for (std::size_t r = 0; r < size; ++r) row[places[r]] = turned[r];
    };
    for (std::size_t i = 0; i < layer.weight.size() / outputs; ++i) turn(layer.weight.data() + i * outputs);
    turn(layer.bias.data());
}

/// A matrix times rows `places` of the weights.
void turnRows(LinearLayer& layer, const std::vector<std::int64_t>& places, const std::vector<double>& by) {
    const std::size_t size = places.size(), outputs = layer.bias.size();
    std::vector<double> turned(size * outputs);
    for (std::size_t r = 0; r < size; ++r)
        for (std::size_t p = 0; p < size; ++p)
            for (std::size_t o = 0; o < outputs; ++o)
                turned[r * outputs + o] += by[r * size + p] * layer.weight[static_cast<std::size_t>(places[p]) * outputs + o];
    for (std::size_t r = 0; r < size; ++r)
        std::copy_n(turned.begin() + static_cast<std::ptrdiff_t>(r * outputs), outputs,
                    layer.weight.begin() + places[r] * static_cast<std::ptrdiff_t>(outputs));
}

class LowRankAttention : public pipeline::Pass {
  public:
    explicit LowRankAttention(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        if (context.view(model).attention.empty())
            throw PassError(fmt::format("{}: no attention was recognised in this model; 'tcompress inspect' says why", kPass));
        analysis::unshareVectors(model);
        const TransformerView& view = context.view(model);
        const data::Split samples = context.calibrationSplit(kPass, "bases are found on data", kHeldBackShare);
        PassReport report, unusable;
        const std::vector<TargetWeight> weights = targetWeights(view, {}, unusable);
        std::vector<Plan> plans;
        for (const UnitLayers& group : targetLayers(view, attentionUnits(view), options_.targets, options_.ignore, report))
            for (const UnitLayer& unit : group.layers) {
                Plan plan;
                plan.name = unit.name;
                const std::string refusal = read(view, weights, unit, plan);
                if (!refusal.empty())
                    report.skipped.push_back({unit.name, refusal});
                else
                    plans.push_back(std::move(plan));
            }
        std::erase_if(plans, [&](Plan& plan) { return !turn(model, view, plan, samples, context, report); });
        if (plans.empty()) return report;
        analysis::KeepMasks keep;
        for (const Plan& plan : plans) {
            cut(view, keep, plan.keyLeaf, plan.keySize);
            cut(view, keep, plan.valueLeaf, plan.valueSize);
            const std::int64_t keys = view.axes->store->leafSize(plan.keyLeaf), values = view.axes->store->leafSize(plan.valueLeaf);
            report.changed.push_back({plan.name,
                                      fmt::format("queries and keys from {} to {} a head (error of the scores {:.3f}), values from {} to {} "
                                                  "(error of the output {:.3f})",
                                                  keys, plan.keySize, plan.keyError, values, plan.valueSize, plan.valueError),
                                      std::max(plan.keyError, plan.valueError)});
        }
        const analysis::ShrinkReport shrunk = analysis::shrink(model, *view.axes, keep, kPass);
        report.notes.insert(report.notes.end(), shrunk.notes.begin(), shrunk.notes.end());
        return report;
    }

  private:
    std::int64_t sizeFor(std::int64_t size, double keep) const {
        const auto wanted = static_cast<std::int64_t>(std::ceil(keep * static_cast<double>(size) - 1e-9));
        return std::clamp<std::int64_t>((wanted + options_.multiple - 1) / options_.multiple * options_.multiple, 1, size);
    }

    static void cut(const TransformerView& view, analysis::KeepMasks& keep, AtomId leaf, std::int64_t size) {
        std::vector<bool> mask(static_cast<std::size_t>(view.axes->store->leafSize(leaf)), true);
        std::fill(mask.begin() + size, mask.end(), false);
        keep[leaf] = std::move(mask);
    }

    std::string read(const TransformerView& view, const std::vector<TargetWeight>& weights, const UnitLayer& unit, Plan& plan) const {
        for (const AttentionLayer& layer : view.attention)
            if (layer.o == unit.consumers && layer.residualAdd == unit.residualAdd) plan.layer = &layer;
        if (plan.layer == nullptr) return "its projections were not found";
        const AttentionLayer& layer = *plan.layer;
        if (layer.repeatLeaf >= 0) return "several queries share a key";
        if (layer.headDimLeaves.size() != 1 || layer.valueDimLeaves.size() != 1) return "a head is split into several axes";
        plan.keyLeaf = layer.headDimLeaves.front();
        plan.valueLeaf = layer.valueDimLeaves.front();
        const analysis::AxisStore& store = *view.axes->store;
        if (store.leafSize(plan.keyLeaf) != layer.headDim || store.leafSize(plan.valueLeaf) != layer.valueDim)
            return "positions of a head are not free (rotary?)";
        if (plan.keyLeaf == plan.valueLeaf) return "keys and values are tied";
        plan.keySize = sizeFor(layer.headDim, options_.keep);
        plan.valueSize = sizeFor(layer.valueDim, options_.keepValues.value_or(options_.keep));
        if (plan.keySize == layer.headDim && plan.valueSize == layer.valueDim) return "nothing to cut at this share and multiple";
        if (layer.q.size() != 1 || layer.k.size() != 1 || layer.v.size() != 1 || layer.o.size() != 1)
            return "a projection has several parts";
        const bool isFused = layer.q == layer.k && layer.k == layer.v;
        if (!isFused && (layer.q == layer.k || layer.k == layer.v || layer.q == layer.v)) return "two of its projections are fused";
        const auto part = [&](std::size_t index) { return isFused ? std::optional(index) : std::nullopt; };
        std::string refusal = read(view, weights, view.sites[layer.q.front()], Along::outputs, plan.keyLeaf, part(0), plan, plan.q);
        if (refusal.empty()) refusal = read(view, weights, view.sites[layer.k.front()], Along::outputs, plan.keyLeaf, part(1), plan, plan.k);
        if (refusal.empty()) refusal = read(view, weights, view.sites[layer.v.front()], Along::outputs, plan.valueLeaf, part(2), plan, plan.v);
        if (refusal.empty()) refusal = read(view, weights, view.sites[layer.o.front()], Along::inputs, plan.valueLeaf, std::nullopt, plan, plan.o);
        return refusal;
    }

    enum class Along { inputs, outputs };
    static std::string read(const TransformerView& view, const std::vector<TargetWeight>& weights, const Site& site, Along along,
                            AtomId leaf, std::optional<std::size_t> part, Plan& plan, Projection& projection) {
        projection.weight = weightOf(site, weights);
        if (projection.weight == nullptr) return fmt::format("'{}' has no float32 matrix of its own", site.name);
        LinearLayer now = readLayer(site);
        if (along == Along::outputs && site.bias != nullptr && site.biasNode != nullptr) {
            if (biasFit(site) == BiasFit::kept) return fmt::format("the bias of '{}' is no constant vector", site.name);
            const auto bias = site.bias->constant()->data<float>();
            now.bias.assign(bias.begin(), bias.end());
        }
        plan.weights.emplace(projection.weight, std::move(now));
        projection.places = placesOf(view, site, along == Along::inputs ? site.inAxis : site.outAxis, plan.layer->groupLeaf, leaf, part);
        return projection.places.empty() ? fmt::format("the heads of '{}' were not found", site.name) : std::string();
    }

    /// New bases for the layer; false, with the model as before, when the outputs do not stay what they were.
    static bool turn(ir::Model& model, const TransformerView& view, Plan& plan, const data::Split& samples,
                     const PassContext& context, PassReport& report) {
        for (const auto& [leaf, size] : {std::pair{plan.keyLeaf, plan.keySize}, std::pair{plan.valueLeaf, plan.valueSize}}) {
            analysis::KeepMasks keep;
            cut(view, keep, leaf, size);
            if (const auto reasons = analysis::shrinkRefusals(model, *view.axes, keep); !reasons.empty()) {
                report.skipped.push_back({plan.name, fmt::format("{}", fmt::join(reasons, "; "))});
                return false;
            }
        }
        std::vector<EvidenceQuery> queries;
        for (const Projection* projection : {&plan.q, &plan.k, &plan.o})
            queries.push_back({projection->site().input, projection->site().output, nullptr});
        const std::vector<Evidence> evidence = collectEvidence(model, model, queries, samples, context.environment());
        const LayerSums ofQuery = evidence[0].all(), ofKey = evidence[1].all(), ofContext = evidence[2].all();
        std::map<const TargetWeight*, LinearLayer> turned = plan.weights;
        LinearLayer &q = turned.at(plan.q.weight), &k = turned.at(plan.k.weight), &v = turned.at(plan.v.weight), &o = turned.at(plan.o.weight);
        double lostKeys = 0, allKeys = 0, lostValues = 0, allValues = 0;
        const auto count = [](const HeadBasis& basis, std::int64_t kept, double& lost, double& all) {
            for (std::size_t i = 0; i < basis.values.size(); ++i) {
                const double square = basis.values[i] * basis.values[i];
                all += square;
                if (static_cast<std::int64_t>(i) >= kept) lost += square;
            }
        };
        for (std::size_t head = 0; head < plan.q.places.size(); ++head) {
            const auto size = static_cast<std::int64_t>(plan.q.places[head].size());
            const HeadBasis scores = scoreBasis(outputMoment(ofQuery, q, plan.q.places[head]), outputMoment(ofKey, k, plan.k.places[head]), size);
            turnColumns(q, plan.q.places[head], scores.left);
            turnColumns(k, plan.k.places[head], scores.right);
            count(scores, plan.keySize, lostKeys, allKeys);
            const std::vector<std::int64_t>& rows = plan.o.places[head];
            std::vector<double> weight;
            for (const std::int64_t row : rows)
                weight.insert(weight.end(), o.weight.begin() + row * plan.o.outputs(), o.weight.begin() + (row + 1) * plan.o.outputs());
            const HeadBasis values = contextBasis(inputMoment(ofContext, rows), weight, std::ssize(rows));
            turnColumns(v, plan.v.places[head], values.left);
            turnRows(o, rows, values.right);
            count(values, plan.valueSize, lostValues, allValues);
        }
        plan.keyError = allKeys > 0 ? std::sqrt(lostKeys / allKeys) : 0.0;
        plan.valueError = allValues > 0 ? std::sqrt(lostValues / allValues) : 0.0;
        const ir::Model before = model.clone();
        ir::Edit edit(model, kPass);
        for (const auto& [weight, layer] : turned) writeLayer(edit, *weight, plan.weights.at(weight), layer);
        edit.commit();
        const std::vector<Evidence> after = collectEvidence(before, model, {{plan.o.site().output, plan.o.site().output, nullptr}}, samples, context.environment());
        LayerSums sums = after.front().all();
        LinearLayer same{std::vector<double>(static_cast<std::size_t>(sums.inputs * sums.inputs)), std::vector<double>(static_cast<std::size_t>(sums.inputs))};
        for (std::int64_t i = 0; i < sums.inputs; ++i) same.weight[static_cast<std::size_t>(i * sums.inputs + i)] = 1;
        if (squaredError(sums, same, 0) <= 1e-4 * squaredError(sums, {std::vector<double>(same.weight.size()), same.bias}, 0)) return true;
        ir::Edit back(model, kPass);
        for (const auto& [weight, layer] : plan.weights) writeLayer(back, *weight, turned.at(weight), layer);
        back.commit();
        report.skipped.push_back({plan.name, "something between its projections and its products looks at single positions of a head"});
        return false;
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo lowRankAttention() {
    pipeline::PassInfo info;
    info.type = "low-rank";
    info.method = "attention";
    info.summary = "smaller heads: queries with keys and values with outputs, factorised together on calibration data";
    info.details =
        "Turns queries and keys, and values and the output projection, into the basis in which the last positions of a head "
        "matter least on the data, and cuts those: the matrices and key-value caches shrink, the heads stay. Rotary positions "
        "and several queries for one key are refused.";
    info.paper = "Wang et al. 2024, SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model Compression";
    info.data = pipeline::DataNeed::always;
    bindOptions<LowRankAttention>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
