// Sets weights to zero by what that does to a layer's output on calibration data, layer by layer on the model as
// pruned so far. Shapes stay.
//
//   sparsegpt   weights go in a sweep over the inputs, in which those not yet passed make up for what is lost
//               (support/sparse_obs.h); what stays then takes the best values for that pattern
//   wanda       the smallest |w| · ‖x‖₂ of each output go; what stays is as it was, or with compensate takes the
//               best values too
//
// "Best" is towards the original's output and what the residual stream lacks already, with a ridge; how much of
// either is chosen on held-back samples (support/refit.h), and biases move along.
//
// Sources: Frantar and Alistarh 2023, "SparseGPT"; Sun et al. 2023, "A Simple and Effective Pruning Approach for
// Large Language Models" (Wanda). Not handled: embedding tables, convolutions, operators with their weights
// inside (each is a skipped site).

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "passes/passes.h"
#include "passes/support/compensation.h"
#include "passes/support/layerwise.h"
#include "passes/support/sparse_allocation.h"
#include "passes/support/sparse_obs.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

enum class Method { sparsegpt, wanda };

struct Options {
    double sparsity = 0.5;
    std::string structure = "unstructured";
    SparseAllocation allocation = SparseAllocation::uniform;
    std::int64_t steps = 1;
    bool compensate = false;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable(Method method) {
    OptionTable<Options> table;
    table
        .option("sparsity", &Options::sparsity,
                "share of the weights (or blocks) of every matrix to set to zero; N:M says its own")
        .range(0.0, 1.0)
        .option("structure", &Options::structure,
                "unstructured, N:M (2:4 keeps 2 of every 4 along the input axis), or blockRxC (R inputs × C "
                "outputs)");
    table
        .choice("allocation", &Options::allocation,
                {{"uniform", SparseAllocation::uniform},
                 {"saliency", SparseAllocation::saliency},
                 {"owl", SparseAllocation::owl},
                 {"er", SparseAllocation::er}},
                "how the share is spread over the matrices: the same in each; by one threshold for what a weight adds "
                "to its matrix's output; more kept where more products of weight and input norm are outliers; by "
                "shape, as in a sparse random graph")
        .option("steps", &Options::steps,
                "rounds in which the share grows to `sparsity`, fast at first (cubic), each with new statistics")
        .range(1, 64);
    if (method == Method::wanda)
        table.option("compensate", &Options::compensate,
                     "give the weights that stay the values that suit the output best");
    table.option("targets", &Options::targets, "sites to prune, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const auto pattern = parseSparsePattern(options.structure);
    if (!pattern)
        diagnostics.add(
            pointer + "/structure",
            fmt::format("'{}' is not unstructured, N:M with 0 < N < M (2:4), or blockRxC (block4x1)",
                        options.structure));
    else if (pattern->isGrouped() && (options.allocation != SparseAllocation::uniform || options.steps > 1))
        diagnostics.add(pointer,
                        fmt::format("structure {} says how much goes everywhere; leave allocation and steps out",
                                    options.structure));
}

template <Method method>
class PruneByOutput : public pipeline::Pass {
  public:
    explicit PruneByOutput(Options options)
        : options_(std::move(options)), pattern_(*parseSparsePattern(options_.structure)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const char* const name = method == Method::wanda ? "prune/wanda" : "prune/sparsegpt";
        const data::Split samples = context.calibrationSplit(
            name, "weights go by what that does to outputs", kHeldBackShare);
        PassReport report;
        const analysis::TransformerView& view = context.view(model);
        const std::vector<TargetWeight> weights =
            targetWeights(view, {options_.targets, options_.ignore, WeightQuery::Tables::whenNamed}, report);
        const std::vector<const TargetWeight*> usable =
            withoutRefusal(weights, [&](const TargetWeight& weight) { return refusal(weight); }, report);
        const ir::Model reference = model.clone();
        const std::vector<double> shares = sharesOf(model, usable, samples, context);
        for (std::int64_t step = 1; step <= options_.steps; ++step) {
            PassReport round;
            const double left = 1 - static_cast<double>(step) / static_cast<double>(options_.steps);
            fitLayerwise(model, reference, view, usable, samples, context.environment(), [&](const LayerProblem& problem) {
                const auto place = std::find(usable.begin(), usable.end(), problem.weight) - usable.begin();
                // Zhu and Gupta 2017, "To prune, or not to prune", equation 1.
                return prune(problem, shares[static_cast<std::size_t>(place)] * (1 - left * left * left), round);
            });
            if (step == options_.steps) report.changed = std::move(round.changed);
        }
        return report;
    }

  private:
    std::string refusal(const TargetWeight& weight) const {
        if (weight.hasEmbedding()) return "an embedding table: nothing is multiplied that could be measured";
        if (std::string reason = refitRefusal(weight); !reason.empty()) return reason;
        const Shape& shape = weight.constant->constant()->shape();
        return patternRefusal(pattern_, shape[weight.inAxis], shape[weight.outAxis]);
    }

    std::vector<double> sharesOf(const ir::Model& model, const std::vector<const TargetWeight*>& weights,
                                 const data::Split& samples, const PassContext& context) const {
        if (options_.allocation == SparseAllocation::uniform)
            return std::vector<double>(weights.size(), options_.sparsity);
        calibration::ValueSet inputs;
        for (const TargetWeight* weight : weights) inputs.insert(weight->sites.front()->input);
        const auto statistics = calibration::collectChannelStatistics(
            model, samples.fit, inputs, calibration::MomentOrder::first, context.progress(), context.resources());
        std::vector<SparseLayer> layers;
        for (const TargetWeight* weight : weights) {
            const analysis::Site& site = *weight->sites.front();
            const auto seen = statistics.find(site.input);
            // A layer that sees no row is judged by its weights alone.
            const std::vector<double> ones(static_cast<std::size_t>(site.inFeatures), 1.0);
            layers.emplace_back(readLayer(site).weight, seen == statistics.end() ? ones : seen->second.meanSquare);
        }
        return allocateSparsity(layers, options_.allocation, options_.sparsity);
    }

    LinearLayer prune(const LayerProblem& problem, double sparsity, PassReport& report) const {
        const LinearLayer& start = problem.start;
        SparseMask mask;
        ConstrainedFit fit;
        if (method == Method::wanda && !options_.compensate) {
            mask = wandaMask(problem.evidence.all(), start, sparsity);
            fit.layer = masked(start, mask);
        } else {
            fit = chooseConstrained(problem, [&](const LayerSums& sums, const RefitChoice& choice) {
                const std::vector<double> h = hessian(sums, choice);
                const std::vector<double> best = refit(sums, start, choice).weight;
                mask = method == Method::wanda
                           ? wandaMask(sums, start, sparsity)
                           : sweepMask(h, best, sums.outputs, pattern_,
                                       sparsity, zerosOf(start));
                return withBias(sums, sparseOptimum(h, best, sums.outputs, mask), start, choice);
            });
        }
        const auto zeros = std::count(mask.begin(), mask.end(), false);
        const double before = heldBackError(problem, masked(start, mask));
        const double after =
            fit.choice.heldError > 0 ? std::sqrt(fit.choice.heldError) : before;
        std::string change =
            fmt::format("{} of {} weights are zero ({:.1f} %); output error {:.3f}", zeros, mask.size(),
                        100.0 * static_cast<double>(zeros) / static_cast<double>(mask.size()), before);
        if (fit.choice.heldError > 0)
            change += fmt::format(", {:.3f} with the others fitted again ({})", after, describe(fit.choice));
        for (const analysis::Site* site : problem.weight->sites)
            report.changed.push_back({site->name, change, after});
        return fit.layer;
    }

    SparseMask wandaMask(const LayerSums& sums, const LinearLayer& start, double sparsity) const {
        std::vector<double> scores(start.weight.size());
        for (std::int64_t i = 0; i < sums.inputs; ++i) {
            const double norm = std::sqrt(sums.xx[static_cast<std::size_t>(i * sums.inputs + i)]);
            for (std::int64_t o = 0; o < sums.outputs; ++o) {
                const auto at = static_cast<std::size_t>(i * sums.outputs + o);
                scores[at] = std::fabs(start.weight[at]) * norm;
            }
        }
        return maskByScore(scores, sums.outputs, pattern_, sparsity, pattern_.outputs);
    }

    /// What is zero already: of an earlier round, or of the model.
    static SparseMask zerosOf(const LinearLayer& layer) {
        SparseMask zeros(layer.weight.size());
        for (std::size_t i = 0; i < zeros.size(); ++i) zeros[i] = layer.weight[i] == 0;
        return zeros;
    }

    static LinearLayer masked(const LinearLayer& layer, const SparseMask& mask) {
        LinearLayer result = layer;
        for (std::size_t i = 0; i < mask.size(); ++i)
            if (!mask[i]) result.weight[i] = 0;
        return result;
    }

    Options options_;
    SparsePattern pattern_;
};

}  // namespace

pipeline::PassInfo pruneSparsegpt() {
    pipeline::PassInfo info;
    info.type = "prune";
    info.method = "sparsegpt";
    info.summary = "set weights to zero and fit the others again, by the output on calibration data";
    info.details =
        "Single weights, N:M or blocks. Layer by layer, on the model as pruned so far, the weights go whose loss the "
        "others can make up for best, and the others take the values that come nearest to the original's output on "
        "calibration data. The ridge, and how much of the residual stream's error is taken over, are chosen on "
        "samples that are held back. The zeros are stored like any other value.";
    info.paper = "Frantar and Alistarh 2023, SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot";
    info.data = pipeline::DataNeed::always;
    bindOptions<PruneByOutput<Method::sparsegpt>, Options>(info, optionTable(Method::sparsegpt), checkOptions);
    return info;
}

pipeline::PassInfo pruneWanda() {
    pipeline::PassInfo info;
    info.type = "prune";
    info.method = "wanda";
    info.summary = "set the weights to zero that add least to their output on calibration data";
    info.details =
        "Of each output the smallest products of a weight's size and its input's norm go: single weights, N:M or "
        "blocks. What stays is as it was, or with compensate takes the values that come nearest to the original's "
        "output. The zeros are stored like any other value.";
    info.paper = "Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models";
    info.data = pipeline::DataNeed::always;
    bindOptions<PruneByOutput<Method::wanda>, Options>(info, optionTable(Method::wanda), checkOptions);
    return info;
}

}  // namespace tcompress::passes
