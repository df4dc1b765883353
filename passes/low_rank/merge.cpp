// Two linear layers with nothing between them but a bias, reshapes and transpositions become one where that is smaller:
//
//   y = (x·A + a)·B + b,   A [m, r], B [r, n]   →   y = x·(A·B) + (a·B + b)        when m·n < r·(m + n)
//
// Exact but for rounding, less to store and less to compute. It undoes factors whose rank was no gain, joins maps that stand in for
// dropped layers with what reads them, and tables with a projection behind them. What lies between must only move rows about: the
// axis that B contracts is the one that A writes.
// Not handled: layers that share their weights, a value between the two that something else reads, quantized weights.

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <set>

#include "kernels/linalg.h"
#include "lib/analysis/targets.h"
#include "passes/passes.h"
#include "lib/ir/emit.h"
#include "passes/support/layer_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "low-rank/merge";

struct Options {
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("targets", &Options::targets, "second layers of pairs to merge, by patterns")
        .option("ignore", &Options::ignore, "second layers to leave alone, by patterns");
    return table;
}

/// Two layers, and the nodes between them from the first to the second.
struct Pair {
    const TargetWeight* first = nullptr;
    const TargetWeight* second = nullptr;
    std::vector<ir::Node*> between;

    const Site& firstSite() const { return *first->sites.front(); }
    const Site& secondSite() const { return *second->sites.front(); }
    std::int64_t rows() const {
        return isEmbedding(firstSite()) ? first->constant->constant()->shape()[0] : firstSite().inFeatures;
    }
    std::int64_t inner() const { return secondSite().inFeatures; }
    std::int64_t columns() const { return secondSite().outFeatures; }
    std::int64_t parametersBefore() const { return inner() * (rows() + columns()); }
    std::int64_t parametersAfter() const { return rows() * columns(); }
};

/// The Add behind a site that holds its bias; null when there is none of its own.
ir::Node* biasAdd(const Site& site) {
    const bool isAdd = site.biasNode != nullptr && site.biasNode->is("Add") && biasFit(site) == BiasFit::fitted;
    if (!isAdd) return nullptr;
    const auto& inputs = site.biasNode->inputs();
    return std::find(inputs.begin(), inputs.end(), site.output) != inputs.end() ? site.biasNode : nullptr;
}

/// What is added to a site's product up to resultOf().
std::vector<double> mergedBias(const Site& site) {
    if (isEmbedding(site)) return std::vector<double>(static_cast<std::size_t>(site.weight->constant()->shape()[1]));
    return biasAdd(site) != nullptr ? wholeBias(site) : readLayer(site).bias;
}

ir::Value* resultOf(const Site& site) {
    const ir::Node* add = biasAdd(site);
    return add == nullptr ? site.output : add->output();
}

/// Moves rows about as long as the last axis stays what it is.
bool movesRows(const ir::Node& node) {
    return node.is("Reshape") || node.is("Transpose") || node.is("Squeeze") || node.is("Unsqueeze") ||
           node.is("Identity") || node.is("Flatten");
}

class Merge : public pipeline::Pass {
  public:
    explicit Merge(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const TransformerView& view = context.view(model);
        std::set<std::string> names;
        for (const std::size_t site : analysis::SitePatterns(options_.targets, options_.ignore).select(view))
            names.insert(view.sites[site].name);
        // One pair at a time: what comes out may be the first of another.
        while (mergeOne(model, context, names, report)) continue;
        if (report.changed.empty())
            report.notes.push_back("nothing merged: no layer and the one in front of it are smaller as one");
        return report;
    }

  private:
    static bool mergeOne(ir::Model& model, const PassContext& context, const std::set<std::string>& names,
                         PassReport& report) {
        const TransformerView& view = context.view(model);
        PassReport unusable;
        const std::vector<TargetWeight> weights = targetWeights(view, {}, unusable);
        for (const Site& site : view.sites) {
            if (!names.contains(site.name)) continue;
            const std::optional<Pair> pair = pairAt(view, weights, site);
            if (!pair || pair->parametersAfter() >= pair->parametersBefore()) continue;
            report.changed.push_back(
                {pair->secondSite().name,
                 fmt::format("merged with '{}' in front of it: [{}, {}] · [{}, {}] to [{}, {}], {} of {} parameters",
                             pair->firstSite().name, pair->rows(), pair->inner(), pair->inner(), pair->columns(),
                             pair->rows(), pair->columns(), pair->parametersAfter(), pair->parametersBefore())});
            merge(model, *pair);
            return true;
        }
        return false;
    }

    static std::optional<Pair> pairAt(const TransformerView& view, const std::vector<TargetWeight>& weights,
                                      const Site& second) {
        const auto own = [&](const Site& site) -> const TargetWeight* {
            for (const TargetWeight& weight : weights)
                if (weight.sites.size() == 1 && weight.sites.front() == &site && weight.constant->uses().size() == 1)
                    return &weight;
            return nullptr;
        };
        Pair pair;
        pair.second = own(second);
        if (pair.second == nullptr || isEmbedding(second) || !refitRefusal(*pair.second).empty()) return std::nullopt;
        const ir::Value* value = second.input;
        while (value->uses().size() == 1 && value->uses().front().kind == ir::UseKind::input &&
               !value->isGraphOutput()) {
            const auto first = std::find_if(view.sites.begin(), view.sites.end(),
                                            [&](const Site& site) { return resultOf(site) == value; });
            if (first != view.sites.end()) {
                pair.first = own(*first);
                const bool usable = pair.first != nullptr && first->output->uses().size() == 1 &&
                                    isReadable(*pair.first) && sameLastAxis(view, *value, *second.input);
                return usable ? std::optional(pair) : std::nullopt;
            }
            ir::Node* const node = value->producer();
            if (node == nullptr || !movesRows(*node) || !canNarrow(*node, second.inFeatures) ||
                !sameLastAxis(view, *node->input(0), *second.input))
                return std::nullopt;
            pair.between.insert(pair.between.begin(), node);
            value = node->input(0);
        }
        return std::nullopt;
    }

    static bool isReadable(const TargetWeight& weight) {
        const Site& site = *weight.sites.front();
        if (!isEmbedding(site)) return refitRefusal(weight).empty();
        return site.node->is("Gather") && site.node->attributeInt("axis", 0) == 0 &&
               weight.constant->constant()->rank() == 2;
    }

    /// Whether the second layer contracts, element by element, the last axis of what is in front of it.
    static bool sameLastAxis(const TransformerView& view, const ir::Value& before, const ir::Value& input) {
        const auto *written = view.axes->of(&before), *read = view.axes->of(&input);
        if (written == nullptr || read == nullptr || written->empty() || read->empty()) return false;
        const analysis::AxisStore& store = *view.axes->store;
        return !written->back().empty() && store.resolve(written->back()) == store.resolve(read->back());
    }

    /// A reshape names the size of the last axis: it must be able to name another.
    static bool canNarrow(const ir::Node& node, std::int64_t size) {
        if (!node.is("Reshape")) return !node.is("Flatten") || node.attributeInt("axis", 1) == -1;
        const Tensor* shape = node.input(1) == nullptr ? nullptr : node.input(1)->constant();
        if (shape == nullptr || shape->dtype() != DType::int64 || shape->size() == 0) return false;
        const std::int64_t last = shape->data<std::int64_t>().back();
        // A -1 in front would be counted from the new size all the same: rows stay as many as they are.
        return last == size || last == -1;
    }

    static void merge(ir::Model& model, const Pair& pair) {
        const Site &first = pair.firstSite(), &second = pair.secondSite();
        const LinearLayer after = readLayer(second);
        std::vector<double> before;
        if (isEmbedding(first)) {
            const auto rows = pair.first->constant->constant()->data<float>();
            before.assign(rows.begin(), rows.end());
        } else {
            before = readLayer(first).weight;
        }
        const std::vector<double> bias = mergedBias(first);
        std::vector<double> product(static_cast<std::size_t>(pair.parametersAfter())), moved = mergedBias(second);
        using kernels::Transposition;
        kernels::gemm(Transposition::no, Transposition::no, pair.rows(), pair.columns(), pair.inner(), before,
                      after.weight, product);
        for (std::size_t i = 0; i < bias.size(); ++i)
            for (std::size_t o = 0; o < moved.size(); ++o) moved[o] += bias[i] * after.weight[i * moved.size() + o];

        ir::Edit edit(model, kPass);
        const std::vector<float> values(product.begin(), product.end()), biases(moved.begin(), moved.end());
        ir::Value* const weight =
            edit.addInitializer(pair.second->constant->name() + "_merged",
                                Tensor::of<float>({pair.rows(), pair.columns()}, std::span<const float>(values)));
        ir::Value* result = isEmbedding(first) ? emit(edit, "Gather", {weight, first.input}, {}, first.name)
                                               : emit(edit, "MatMul", {first.input, weight}, {}, first.name);
        if (std::any_of(moved.begin(), moved.end(), [](double value) { return value != 0; }))
            result = emit(
                edit, "Add",
                {result, edit.addInitializer(pair.second->constant->name() + "_bias",
                                             Tensor::of<float>({pair.columns()}, std::span<const float>(biases)))});
        for (ir::Node* node : pair.between) {
            edit.replaceInput(node, 0, result);
            if (node->is("Reshape")) renameSize(edit, *node, pair.inner(), pair.columns());
            result = node->output();
        }
        edit.replaceAllUses(resultOf(second), result);
        edit.commit();
    }

    static void renameSize(ir::Edit& edit, ir::Node& reshape, std::int64_t from, std::int64_t to) {
        const auto old = reshape.input(1)->constant()->data<std::int64_t>();
        std::vector<std::int64_t> sizes(old.begin(), old.end());
        if (sizes.back() != from) return;
        sizes.back() = to;
        edit.replaceInput(&reshape, 1, emitIntegers(edit, sizes));
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo lowRankMerge() {
    pipeline::PassInfo info;
    info.type = "low-rank";
    info.method = "merge";
    info.summary = "two linear layers with nothing between them become one where that is smaller";
    info.details =
        "Multiplies the matrices of two consecutive linear layers, or of a table and the layer behind it, when the "
        "product has fewer "
        "parameters than the two: exact but for rounding, and less to compute. Looks through biases, reshapes and "
        "transpositions that "
        "leave the axis between them whole.";
    info.idleIsFine = true;
    bindOptions<Merge>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
