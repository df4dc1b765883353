// Replaces a linear layer by two thinner ones that come nearest to its output on calibration data, layer by layer on
// the model as factorised so far.
//
//   y = x · W        W [m, n]
//   ↓                A [m, r], B [r, n] from the singular values of Lᵀ·W, where L·Lᵀ is XᵀX with a ridge
//   y = (x · A) · B
//
// W is first moved to what suits the original's output and what the residual stream lacks already; the ridge and how
// much of the latter are chosen on held-back samples (support/refit.h), and biases move along. Ranks are the same share
// for all layers.
//
// Source: Wang et al. 2024, "SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model
// Compression". Not handled: embedding tables (low-rank/svd does them), convolutions, operators with their weights
// inside.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "passes/low_rank/factor_products.h"
#include "passes/low_rank/whitened_svd.h"
#include "passes/passes.h"
#include "passes/support/compensation.h"
#include "passes/support/layerwise.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "low-rank/activation-aware";

struct Options {
    double keep = 0.5;
    std::optional<std::int64_t> rank;
    std::int64_t multiple = 8;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("keep", &Options::keep, "share of a matrix's parameters that its two factors may hold")
        .range(0, 1)
        .option("rank", &Options::rank, "rank of every factorised matrix, taken as it is, instead of a share")
        .range(1, 1 << 20)
        .option("multiple", &Options::multiple,
                "ranks are rounded down to a multiple of this: matrix kernels like multiples of 8")
        .range(1, 4096)
        .option("targets", &Options::targets, "sites to factorise, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
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
        const std::vector<const TargetWeight*> usable =
            withoutRefusal(weights, [&](const TargetWeight& weight) { return refusal(weight); }, report);
        // While later layers are fitted the graph holds the products of the factors.
        std::map<const TargetWeight*, LowRankFactors> factors;
        fitLayerwise(model, model.clone(), view, usable, samples, context.progress(),
                     [&](const LayerProblem& problem) {
                         return factorise(problem, factors[problem.weight], report);
                     });
        ir::Edit edit(model, kPass);
        for (const TargetWeight* weight : usable) rewrite(edit, *weight, factors.at(weight));
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

    std::string refusal(const TargetWeight& weight) const {
        if (weight.hasEmbedding()) return "an embedding table; low-rank/svd can factorise it";
        if (std::string reason = refitRefusal(weight); !reason.empty()) return reason;
        for (const analysis::Site* site : weight.sites)
            if (std::string reason = factorRefusal(*site); !reason.empty()) return reason;
        const Shape& shape = weight.constant->constant()->shape();
        return factorSizeRefusal(shape[0], shape[1], rankOf(shape[0], shape[1]));
    }

    LinearLayer factorise(const LayerProblem& problem, LowRankFactors& factors, PassReport& report) const {
        const LinearLayer& start = problem.start;
        const LayerSums& fit = problem.evidence.fit;
        const std::int64_t rank = rankOf(fit.inputs, fit.outputs);
        const ConstrainedFit found =
            chooseConstrained(problem, [&](const LayerSums& sums, const RefitChoice& choice) {
                factors = whitenedSvd(hessian(sums, choice), refit(sums, start, choice).weight, sums.outputs, rank);
                return withBias(sums, product(factors), start, choice);
            });
        // The plain decomposition, in which all inputs count alike.
        std::vector<double> unit(static_cast<std::size_t>(fit.inputs * fit.inputs));
        for (std::int64_t i = 0; i < fit.inputs; ++i) unit[static_cast<std::size_t>(i * fit.inputs + i)] = 1;
        const double plain = heldBackError(
            problem, {product(whitenedSvd(std::move(unit), start.weight, fit.outputs, rank)), start.bias});
        const double error = std::sqrt(found.choice.heldError);
        const std::string change = fmt::format(
            "[{}, {}] to rank {}: {} of {} parameters; output error {:.3f}, {:.3f} fitted to data ({})", fit.inputs,
            fit.outputs, rank, rank * (fit.inputs + fit.outputs), fit.inputs * fit.outputs, plain, error,
            describe(found.choice));
        for (const analysis::Site* site : problem.weight->sites)
            report.changed.push_back({site->name, change, error});
        return found.layer;
    }

    static void rewrite(ir::Edit& edit, const TargetWeight& weight, const LowRankFactors& factors) {
        // Gemm's alpha stays at the second product.
        const analysis::Site& site = *weight.sites.front();
        const double scale = site.node->is("Gemm") ? site.node->attributeFloat("alpha", 1.0f) : 1.0;
        Tensor left(DType::float32, {factors.inputs, factors.rank});
        Tensor right(DType::float32, {factors.rank, factors.outputs});
        std::copy(factors.left.begin(), factors.left.end(), left.mutableData<float>().begin());
        std::transform(factors.right.begin(), factors.right.end(), right.mutableData<float>().begin(),
                       [&](double value) { return static_cast<float>(value / scale); });
        if (weight.inAxis == 0)
            replaceByFactors(edit, weight, std::move(left), std::move(right));
        else
            replaceByFactors(edit, weight, transpose(right, {1, 0}), transpose(left, {1, 0}));
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
    bindOptions<LowRankActivationAware>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
