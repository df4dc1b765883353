// A matrix becomes the sum of a sparse one and a thin product, which come nearest to its output on calibration data, layer by
// layer on the model as done so far.
//
//   MatMul(x, W)   →   MatMul(x, Add(S, MatMul(A, B)))
//
// The sum is made of constants: runtimes compute it once, when they load the model, so an inference takes as long as before. The
// file shrinks when store-sparse has taken the zeros out of S. How both parts are found: sparse_low_rank.h. The ridge and how much
// of the residual stream's error is taken over are chosen on held-back samples, and biases move along.
//
// Not handled: embedding tables, convolutions, operators with their weights inside.

#include <fmt/core.h>

#include <cmath>
#include <map>

#include "passes/low_rank/sparse_low_rank.h"
#include "passes/passes.h"
#include "passes/support/compensation.h"
#include "lib/ir/emit.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "low-rank/sparse-residual";

struct Options {
    double keep = 0.5;
    double lowRankShare = 0.1;
    std::int64_t rounds = 3;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("keep", &Options::keep,
                "share of a matrix's bytes that both parts may take, with a bit for each entry that says whether the sparse one "
                "has it")
        .range(0.05, 1)
        .option("low_rank_share", &Options::lowRankShare, "share of these bytes that the two factors take")
        .range(0.001, 0.9)
        .option("rounds", &Options::rounds, "times that each part is found anew for the other")
        .range(1, 64)
        .option("targets", &Options::targets, "sites to work on, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

class LowRankSparseResidual : public pipeline::Pass {
  public:
    explicit LowRankSparseResidual(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const data::Split samples = context.calibrationSplit(kPass, "both parts are fitted to what layers give on data", kHeldBackShare);
        PassReport report;
        const analysis::TransformerView& view = context.view(model);
        const std::vector<TargetWeight> weights =
            targetWeights(view, {options_.targets, options_.ignore, WeightQuery::Tables::whenNamed}, report);
        const std::vector<const TargetWeight*> usable =
            withoutRefusal(weights, [&](const TargetWeight& weight) { return refusal(weight); }, report);
        // While later layers are fitted the graph holds the sums.
        std::map<const TargetWeight*, SparseLowRank> parts;
        fitLayerwise(model, model.clone(), view, usable, samples, context.environment(),
                     [&](const LayerProblem& problem) { return decompose(problem, parts[problem.weight], report); });
        ir::Edit edit(model, kPass);
        for (const TargetWeight* weight : usable) rewrite(edit, *weight, parts.at(weight));
        if (!edit.empty()) edit.commit();
        return report;
    }

  private:
    std::string refusal(const TargetWeight& weight) const {
        if (weight.hasEmbedding()) return "an embedding table: nothing is multiplied that could be measured";
        if (std::string reason = refitRefusal(weight); !reason.empty()) return reason;
        const Shape& shape = weight.constant->constant()->shape();
        const SparseLowRankSize size = sizeOf(shape[0], shape[1]);
        if (size.kept == 0) return "what may stay is less than the places and the factors take";
        return {};
    }

    SparseLowRankSize sizeOf(std::int64_t m, std::int64_t n) const {
        return sparseLowRankSize(m, n, options_.keep, options_.lowRankShare);
    }

    LinearLayer decompose(const LayerProblem& problem, SparseLowRank& parts, PassReport& report) const {
        const LinearLayer& start = problem.start;
        const std::int64_t inputs = problem.evidence.fit.inputs, outputs = problem.evidence.fit.outputs;
        const SparseLowRankSize size = sizeOf(inputs, outputs);
        const ConstrainedFit found = chooseConstrained(problem, [&](const LayerSums& sums, const RefitChoice& choice) {
            parts = sparseLowRank(hessian(sums, choice), refit(sums, start, choice).weight, outputs, size.kept, size.rank,
                                  static_cast<int>(options_.rounds));
            return withBias(sums, parts.sum(), start, choice);
        });
        const double error = std::sqrt(found.choice.heldError);
        for (const analysis::Site* site : problem.weight->sites)
            report.changed.push_back(
                {site->name,
                 fmt::format("[{}, {}] to {} values and rank {}; output error {:.3f} ({})", inputs, outputs, size.kept, size.rank,
                             error, describe(found.choice)),
                 error});
        return found.layer;
    }

    static Tensor matrix(const std::vector<double>& values, std::int64_t rows, std::int64_t columns, double scale) {
        Tensor tensor(DType::float32, {rows, columns});
        std::transform(values.begin(), values.end(), tensor.mutableData<float>().begin(),
                       [&](double value) { return static_cast<float>(value / scale); });
        return tensor;
    }

    static void rewrite(ir::Edit& edit, const TargetWeight& weight, const SparseLowRank& parts) {
        const analysis::Site& site = *weight.sites.front();
        const LowRankFactors& factors = parts.factors;
        // Gemm's alpha multiplies the sum.
        const double scale = site.node->is("Gemm") ? site.node->attributeFloat("alpha", 1.0f) : 1.0;
        Tensor sparse = matrix(parts.sparse, factors.inputs, factors.outputs, scale);
        Tensor left = matrix(factors.left, factors.inputs, factors.rank, 1);
        Tensor right = matrix(factors.right, factors.rank, factors.outputs, scale);
        if (weight.inAxis != 0) {
            sparse = transpose(sparse, {1, 0});
            std::swap(left, right);
            left = transpose(left, {1, 0});
            right = transpose(right, {1, 0});
        }
        const std::string& name = weight.constant->name();
        ir::Value* thin = emit(edit, "MatMul", {edit.addInitializer(name + "_in", std::move(left)),
                                                edit.addInitializer(name + "_out", std::move(right))});
        edit.replaceAllUses(weight.constant, emit(edit, "Add", {edit.addInitializer(name + "_sparse", std::move(sparse)), thin}));
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo lowRankSparseResidual() {
    pipeline::PassInfo info;
    info.type = "low-rank";
    info.method = "sparse-residual";
    info.summary = "a matrix becomes a sparse one and two thin ones that together suit its output on calibration data";
    info.details =
        "Finds both parts by turns, the thin one from the singular values of what the sparse one leaves over and the sparse one "
        "from what the thin one leaves over, so that the output on calibration data changes least, layer by layer on the model "
        "as done so far. Their sum is made of constants and computed once, when a runtime loads the model: the file shrinks, with "
        "store-sparse behind, and an inference takes as long as before.";
    info.paper = "Zhang and Papyan 2024, OATS: Outlier-Aware Pruning Through Sparse and Low Rank Decomposition";
    info.data = pipeline::DataNeed::always;
    bindOptions<LowRankSparseResidual>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
