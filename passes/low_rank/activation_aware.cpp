// Replaces a linear layer by two thinner ones that come nearest to its output on calibration data, layer by layer on
// the model as factorised so far.
//
//   y = x · W        W [m, n]
//   ↓                A [m, r], B [r, n] from the singular values of Lᵀ·W, where L·Lᵀ is XᵀX with a ridge
//   y = (x · A) · B
//
// W is first moved to what suits the original's output and what the residual stream lacks already; the ridge and how
// much of the latter are chosen on held-back samples (support/refit.h), and biases move along. Ranks are the same share
// for all layers, or shared out by what the model's outputs lose (rank_allocation.h).
//
// Source: Wang et al. 2024, "SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model
// Compression". Embedding tables, where they are named, are factorised nearest in the rows that the data look up
// (table_factors.h). Not handled: convolutions, operators with their weights inside.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "passes/low_rank/factor_products.h"
#include "passes/low_rank/fitted_factors.h"
#include "passes/low_rank/rank_allocation.h"
#include "passes/low_rank/table_factors.h"
#include "passes/passes.h"
#include "passes/quantize/table/row_usage.h"
#include "passes/support/compensation.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "low-rank/activation-aware";

enum class Allocation { uniform, global };

struct Options {
    double keep = 0.5;
    Allocation allocation = Allocation::uniform;
    std::optional<std::int64_t> rank;
    std::int64_t multiple = 8;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("keep", &Options::keep, "share of a matrix's parameters that its two factors may hold")
        .range(0, 1)
        .choice("allocation", &Options::allocation, {{"uniform", Allocation::uniform}, {"global", Allocation::global}},
                "uniform: every matrix keeps the same share; global: all together keep it, ranks shared out by what the "
                "model's outputs lose")
        .option("rank", &Options::rank, "rank of every factorised matrix, taken as it is, instead of a share")
        .range(1, 1 << 20)
        .option("multiple", &Options::multiple,
                "ranks are rounded down to a multiple of this: matrix kernels like multiples of 8")
        .range(1, 4096)
        .option("targets", &Options::targets, "sites to factorise, by patterns; embeddings only when named")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    if (options.rank && options.allocation == Allocation::global)
        diagnostics.add(pointer + "/allocation", "global shares ranks out by keep; leave rank out");
}

class LowRankActivationAware : public pipeline::Pass {
  public:
    explicit LowRankActivationAware(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const data::Split samples = context.calibrationSplit(
            kPass, "factors are fitted to what layers give on data", kHeldBackShare);
        PassReport report;
        const analysis::TransformerView& view = context.view(model);
        const std::vector<TargetWeight> weights =
            targetWeights(view, {options_.targets, options_.ignore, WeightQuery::Tables::whenNamed}, report);
        std::vector<const TargetWeight*> tables, usable;
        for (const TargetWeight* weight :
             withoutRefusal(weights, [&](const TargetWeight& weight) { return refusal(weight); }, report))
            (weight->hasEmbedding() ? tables : usable).push_back(weight);
        const std::map<const TargetWeight*, std::int64_t> ranks = ranksOf(model, usable, samples, context, report);
        // While later layers are fitted the graph holds the products of the factors.
        std::map<const TargetWeight*, LowRankFactors> factors;
        std::vector<const TargetWeight*> thinned;
        for (const TargetWeight* weight : usable)
            if (ranks.contains(weight)) thinned.push_back(weight);
        fitLayerwise(model, model.clone(), view, thinned, samples, context.environment(),
                     [&](const LayerProblem& problem) {
                         return factorise(problem, ranks.at(problem.weight), factors[problem.weight], report);
                     });
        ir::Edit edit(model, kPass);
        for (const TargetWeight* weight : thinned) replaceByFactors(edit, *weight, factors.at(weight));
        // Look-ups last: replacing their rows then also reaches the products that were put before a layer.
        for (const TargetWeight* table : tables) factoriseTable(edit, model, *table, context, report);
        if (!edit.empty()) edit.commit();
        return report;
    }

  private:
    std::int64_t rankOf(std::int64_t m, std::int64_t n) const {
        if (options_.rank) return *options_.rank;
        const auto most = static_cast<std::int64_t>(options_.keep * static_cast<double>(m * n) /
                                                    static_cast<double>(m + n));
        return std::max(most / options_.multiple * options_.multiple, options_.multiple);
    }

    /// Without an entry a matrix stays whole.
    std::map<const TargetWeight*, std::int64_t> ranksOf(ir::Model& model, const std::vector<const TargetWeight*>& weights,
                                                        const data::Split& samples, const PassContext& context,
                                                        PassReport& report) const {
        const auto uniform = [&](std::int64_t m, std::int64_t n) { return rankOf(m, n); };
        std::map<const TargetWeight*, std::int64_t> ranks;
        if (options_.allocation == Allocation::uniform) {
            for (const TargetWeight* weight : weights) {
                const Shape& shape = weight->constant->constant()->shape();
                ranks[weight] = rankOf(shape[0], shape[1]);
            }
            return ranks;
        }
        const std::vector<RankCurve> curves = measureRankCurves(model, weights, uniform, samples, context.environment());
        const auto allocated = allocateRanks(curves, options_.keep, options_.multiple);
        for (std::size_t w = 0; w < weights.size(); ++w)
            if (allocated[w])
                ranks[weights[w]] = *allocated[w];
            else
                skip(report, *weights[w], "the outputs lose least when it stays whole");
        return ranks;
    }

    std::string refusal(const TargetWeight& weight) const {
        if (weight.hasEmbedding() && weight.hasLinear()) return "its weight is both a table and a linear layer's";
        if (!weight.hasEmbedding())
            if (std::string reason = refitRefusal(weight); !reason.empty()) return reason;
        for (const analysis::Site* site : weight.sites)
            if (std::string reason = factorRefusal(*site); !reason.empty()) return reason;
        const Shape& shape = weight.constant->constant()->shape();
        if (shape.size() != 2) return fmt::format("its weight has rank {}, not 2", shape.size());
        return factorSizeRefusal(shape[0], shape[1], rankOf(shape[0], shape[1]));
    }

    void factoriseTable(ir::Edit& edit, const ir::Model& model, const TargetWeight& table, const PassContext& context,
                        PassReport& report) const {
        const Tensor& whole = *table.constant->constant();
        const std::int64_t rows = whole.shape()[0], columns = whole.shape()[1], rank = rankOf(rows, columns);
        const TableFactors factors =
            usageWeightedFactors(whole, tableUsage(model, context, kPass, table, report), rank);
        const std::string change = fmt::format("[{}, {}] to rank {}: {} of {} parameters, rows weighed by their use", rows,
                                               columns, rank, rank * (rows + columns), rows * columns);
        replaceByFactors(edit, table, factors.rows, factors.basis);
        for (const analysis::Site* site : table.sites) report.changed.push_back({site->name, change, factors.error});
    }

    static LinearLayer factorise(const LayerProblem& problem, std::int64_t rank, LowRankFactors& factors, PassReport& report) {
        FittedFactors fitted = fitFactors(problem, rank);
        for (const analysis::Site* site : problem.weight->sites)
            report.changed.push_back({site->name, describe(fitted), fitted.error});
        factors = std::move(fitted.factors);
        return std::move(fitted.fit.layer);
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo lowRankActivationAware() {
    pipeline::PassInfo info;
    info.type = "low-rank";
    info.method = "activation-aware";
    info.summary = "a matrix becomes the product of two smaller ones that suit its output on calibration data";
    info.details =
        "Factorises linear layers where two factors hold fewer parameters, so that the output on calibration data "
        "changes least, layer by layer on the model as factorised so far. The ridge, and how much of the residual "
        "stream's error is taken over, are chosen on samples that are held back; biases move along. The report tells "
        "the error beside that of a plain decomposition.";
    info.paper = "Wang et al. 2024, SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model Compression";
    info.data = pipeline::DataNeed::always;
    bindOptions<LowRankActivationAware, Options>(info, optionTable(), checkOptions);
    return info;
}

}  // namespace tcompress::passes
