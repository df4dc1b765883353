// Sets weights to zero by what that does to a layer's output on calibration data, layer by layer on the model as
// pruned so far. Shapes stay.
//
//   sparsegpt   weights go in a sweep over the inputs, in which those not yet passed make up for what is lost
//               (support/sparse_obs.h), or by alternating directions (support/sparse_admm.h); what stays then takes
//               the best values for that pattern
//   wanda       the smallest |w| · ‖x‖₂ of each output go; what stays is as it was, or with compensate takes the
//               best values too
//
// "Best" is towards the original's output and what the residual stream lacks already, with a ridge; how much of
// either is chosen on held-back samples (support/refit.h), and biases move along. With `loss: model` errors count by what
// they do to the model's outputs (support/output_curvature.h).
//
// Sources: Frantar and Alistarh 2023, "SparseGPT"; Meng et al. 2024, "ALPS"; van der Ouderaa et al. 2024, "The LLM
// Surgeon"; Sun et al. 2023, "A Simple and Effective Pruning Approach for Large Language Models" (Wanda). Not handled:
// embedding tables, convolutions, operators with their weights inside (each is a skipped site).

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/prune/sparse_shares.h"
#include "passes/prune/sparsity_target.h"
#include "passes/support/accuracy_drop.h"
#include "passes/support/compensation.h"
#include "passes/support/layerwise.h"
#include "passes/support/output_curvature.h"
#include "passes/support/sparse_admm.h"
#include "passes/support/sparse_obs.h"
#include "passes/support/sparse_optimum.h"
#include "passes/store_sparse/stored_constants.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

enum class Method { sparsegpt, wanda };
enum class Refit { targets, all };
enum class Solver { sweep, admm };

constexpr double kSparsity = 0.5;

struct Options {
    std::optional<double> sparsity;
    std::optional<std::int64_t> maxSizeBytes;
    std::optional<double> maxAccuracyDrop;
    std::string structure = "unstructured";
    SparseAllocation allocation = SparseAllocation::uniform;
    std::int64_t steps = 1;
    bool compensate = false;
    Solver solver = Solver::sweep;
    Loss loss = Loss::layer;
    Refit refit = Refit::all;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable(Method method) {
    OptionTable<Options> table;
    table
        .option("sparsity", &Options::sparsity,
                "share of the weights (or blocks) of every matrix to set to zero, 0.5 unless a limit is given; N:M says its own")
        .range(0.0, 1.0)
        .option("max_size_bytes", &Options::maxSizeBytes,
                "bytes of the file that store-sparse makes of the model right behind this pass: the least sparsity that keeps to "
                "it, instead of `sparsity`")
        .range(1, 1e13)
        .option("max_accuracy_drop", &Options::maxAccuracyDrop,
                "accuracy that may be lost on half of the calibration samples, which is held back and must have labels: the most "
                "sparsity that keeps to it, instead of `sparsity`")
        .range(0, 1)
        .option("structure", &Options::structure,
                "unstructured, N:M (2:4 keeps 2 of every 4 along the input axis), or blockRxC (R inputs × C "
                "outputs)");
    table
        .choice("allocation", &Options::allocation,
                {{"uniform", SparseAllocation::uniform},
                 {"saliency", SparseAllocation::saliency},
                 {"outputs", SparseAllocation::outputs},
                 {"owl", SparseAllocation::owl},
                 {"er", SparseAllocation::er}},
                "how the share is spread over the matrices: the same in each; by one threshold for what a weight adds "
                "to its matrix's output; by one for what it adds to the error of the model's outputs, as trials of each matrix "
                "alone tell; more kept where more products of weight and input norm are outliers; by shape, as in a sparse "
                "random graph")
        .option("steps", &Options::steps,
                "rounds in which the share grows to `sparsity`, fast at first (cubic), each with new statistics")
        .range(1, 64);
    if (method == Method::wanda)
        table.option("compensate", &Options::compensate,
                     "give the weights that stay the values that suit the output best");
    if (method == Method::sparsegpt)
        table
            .choice("solver", &Options::solver, {{"sweep", Solver::sweep}, {"admm", Solver::admm}},
                    "how the weights that go are found: by SparseGPT's one sweep over the inputs; or for the whole matrix at "
                    "once by alternating directions of multipliers (ALPS), which takes longer and loses less")
            .choice("loss", &Options::loss, {{"layer", Loss::layer}, {"model", Loss::model}},
                    "what an error counts by, with solver admm: the matrix's own output; or what that does to the model's outputs, "
                    "to second order and with gradients (K-FAC)")
            .choice("refit", &Options::refit, {{"all", Refit::all}, {"targets", Refit::targets}},
                    "what is fitted again: what is pruned, and poolers and classifiers behind it, which stay whole; or the "
                    "former alone");
    table.option("targets", &Options::targets, "sites to prune, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    const auto pattern = parseSparsePattern(options.structure);
    const bool limited = options.maxSizeBytes || options.maxAccuracyDrop;
    if (int{options.sparsity.has_value()} + int{options.maxSizeBytes.has_value()} + int{options.maxAccuracyDrop.has_value()} > 1)
        diagnostics.add(pointer, "sparsity, max_size_bytes and max_accuracy_drop each say how much goes; give one of them");
    if (!pattern)
        diagnostics.add(
            pointer + "/structure",
            fmt::format("'{}' is not unstructured, N:M with 0 < N < M (2:4), or blockRxC (block4x1)",
                        options.structure));
    if (options.loss == Loss::model && options.solver != Solver::admm)
        diagnostics.add(pointer + "/loss", "loss 'model' needs solver 'admm': the sweep decides each output by itself");
    if (pattern && pattern->isGrouped() && (limited || options.allocation != SparseAllocation::uniform || options.steps > 1))
        diagnostics.add(pointer,
                        fmt::format("structure {} says how much goes everywhere; leave allocation and steps, and limits, out",
                                    options.structure));
}

template <Method method>
class PruneByOutput : public pipeline::Pass {
  public:
    explicit PruneByOutput(Options options)
        : options_(std::move(options)), pattern_(*parseSparsePattern(options_.structure)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        if (options_.maxAccuracyDrop) return withinAccuracy(model, context);
        const data::Split samples = context.calibrationSplit(kName, kWhy, kHeldBackShare);
        const Plan plan = planOf(model, samples, context);
        if (options_.maxSizeBytes) return withinSize(model, plan, samples, context);
        return prune(model, options_.sparsity.value_or(kSparsity), plan, samples, context);
    }

  private:
    std::string refusal(const TargetWeight& weight) const {
        if (weight.hasEmbedding()) return "an embedding table: nothing is multiplied that could be measured";
        if (std::string reason = refitRefusal(weight); !reason.empty()) return reason;
        const Shape& shape = weight.constant->constant()->shape();
        return patternRefusal(pattern_, shape[weight.inAxis], shape[weight.outAxis]);
    }

    static constexpr const char* kName = method == Method::wanda ? "prune/wanda" : "prune/sparsegpt";
    static constexpr const char* kWhy = "weights go by what that does to outputs";

    std::vector<const TargetWeight*> usable(const std::vector<TargetWeight>& weights, PassReport& report) const {
        return withoutRefusal(weights, [&](const TargetWeight& weight) { return refusal(weight); }, report);
    }

    /// Poolers and classifiers that stay whole are fitted to what they gave, on what the pruned layers give.
    static std::string adaptRefusal(const TargetWeight& weight, const std::vector<const TargetWeight*>& chosen) {
        const analysis::SiteRole role = weight.sites.front()->role;
        const bool isChosen = std::any_of(chosen.begin(), chosen.end(), [&](const TargetWeight* other) { return other->constant == weight.constant; });
        if (isChosen || (role != analysis::SiteRole::pooler && role != analysis::SiteRole::classifier)) return "does not adapt";
        return weight.hasEmbedding() ? "an embedding table" : refitRefusal(weight);
    }

    static LinearLayer adapted(const LayerProblem& problem, PassReport& report) {
        const Refitted fitted = refitWhereBetter(problem.evidence, problem.start, problem.bias);
        if (!fitted.choice) return problem.start;
        for (const analysis::Site* site : problem.weight->sites)
            report.changed.push_back({site->name,
                                      fmt::format("stays whole; output error {:.3f}, {:.3f} fitted again ({})", fitted.errorBefore(),
                                                  fitted.errorAfter(), describe(*fitted.choice)),
                                      fitted.errorAfter()});
        return fitted.layer;
    }

    WeightQuery query() const { return {options_.targets, options_.ignore, WeightQuery::Tables::whenNamed}; }

    /// What is known of the weights before any of them changes.
    struct Plan {
        SparseShares shares;
        std::optional<OutputCurvature> curvature;
    };

    Plan planOf(const ir::Model& model, const data::Split& samples, const PassContext& context) const {
        PassReport unused;
        const analysis::TransformerView& view = context.view(model);
        const std::vector<TargetWeight> weights = targetWeights(view, query(), unused);
        const std::vector<const TargetWeight*> chosen = usable(weights, unused);
        std::optional<OutputCurvature> curvature;
        if (options_.loss == Loss::model) curvature.emplace(model, view, chosen, samples.fit, context);
        const OtherWeights others = method == Method::wanda && !options_.compensate ? OtherWeights::kept : OtherWeights::fitted;
        SparseShares shares(model, view, chosen, options_.allocation, options_.sparsity.value_or(kSparsity), others,
                            curvature ? &*curvature : nullptr, samples, context);
        return {std::move(shares), std::move(curvature)};
    }

    /// `plan` is of this model or of one with the same weights.
    PassReport prune(ir::Model& model, double sparsity, const Plan& plan, const data::Split& samples,
                     const PassContext& context) const {
        PassReport report;
        const analysis::TransformerView& view = context.view(model);
        const std::vector<TargetWeight> weights = targetWeights(view, query(), report);
        const std::vector<const TargetWeight*> chosen = usable(weights, report);
        std::vector<const TargetWeight*> walked = chosen;
        PassReport unused;
        const std::vector<TargetWeight> whole = targetWeights(view, {}, unused);
        if (method == Method::sparsegpt && options_.refit == Refit::all && !chosen.empty())
            for (const TargetWeight* weight : withoutRefusal(whole, [&](const TargetWeight& w) { return adaptRefusal(w, chosen); }, unused))
                walked.push_back(weight);
        const ir::Model reference = model.clone();
        const std::vector<double> spread = plan.shares.at(sparsity);
        for (std::int64_t step = 1; step <= options_.steps; ++step) {
            PassReport round;
            const double left = 1 - static_cast<double>(step) / static_cast<double>(options_.steps);
            fitLayerwise(model, reference, view, walked, samples, context.environment(), [&](LayerProblem& problem) {
                const auto place = std::find(chosen.begin(), chosen.end(), problem.weight) - chosen.begin();
                if (place == std::ssize(chosen)) return adapted(problem, round);
                // Zhu and Gupta 2017, "To prune, or not to prune", equation 1.
                const std::vector<double> metric = plan.curvature ? plan.curvature->of(*problem.weight) : std::vector<double>{};
                return prune(problem, spread[static_cast<std::size_t>(place)] * (1 - left * left * left), metric, round);
            });
            if (step == options_.steps) report.changed = std::move(round.changed);
        }
        if (plan.curvature) plan.curvature->noteRefusal(report);
        report.notes.emplace_back(kZerosTakeBytes);
        return report;
    }

    PassReport withinSize(ir::Model& model, const Plan& plan, const data::Split& samples, const PassContext& context) const {
        PassReport unused;
        const std::vector<TargetWeight> weights = targetWeights(context.view(model), query(), unused);
        const std::vector<const TargetWeight*> chosen = usable(weights, unused);
        const SparsityForSize found =
            sparsityForSize(model, chosen, [&](double sparsity) { return plan.shares.at(sparsity); }, *options_.maxSizeBytes, kName);
        PassReport report = prune(model, found.sparsity, plan, samples, context);
        report.notes.push_back(fmt::format("sparsity {:.4f}: the file that store-sparse makes of it is predicted at {} bytes, is {}",
                                           found.sparsity, found.bytes, sparseFileBytes(model)));
        return report;
    }

    PassReport withinAccuracy(ir::Model& model, const PassContext& context) const {
        const data::Split judging = judgingSplit(context, kName, kWhy, "sparsity or max_size_bytes");
        const data::Split samples = data::split(judging.fit, kHeldBackShare);
        struct Trial {
            ir::Model model;
            PassReport report;
            double drop = 0;
        };
        const Plan plan = planOf(model, samples, context);
        std::optional<Trial> best;
        const double sparsity = mostSparsityThatHolds([&](double tried) {
            Trial trial{model.clone(), {}, 0};
            trial.report = prune(trial.model, tried, plan, samples, context);
            trial.drop = accuracyDrop(model, trial.model, judging.heldBack, kName);
            if (trial.drop > *options_.maxAccuracyDrop) return false;
            best = std::move(trial);
            return true;
        });
        if (!best)
            throw PassError(fmt::format("{}: the accuracy drops by more than {} at any sparsity of 1/64 and more", kName,
                                        *options_.maxAccuracyDrop));
        model = std::move(best->model);
        best->report.notes.push_back(fmt::format("sparsity {:.4f}: accuracy on {} held-back samples drops by {:.4f}", sparsity,
                                                 judging.heldBack.sampleCount(), best->drop));
        return std::move(best->report);
    }

    LinearLayer prune(LayerProblem& problem, double sparsity, const std::vector<double>& metric, PassReport& report) const {
        const LinearLayer& start = problem.start;
        SparseMask mask;
        ConstrainedFit fit;
        if (method == Method::wanda && !options_.compensate) {
            mask = wandaMask(problem.evidence.all(), start, sparsity);
            fit.layer = masked(start, mask);
        } else {
            fit = fitted(problem, sparsity, metric, mask);
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

    /// The mask is that of all rows; `metric` of outputs as in sparseOptimum().
    ConstrainedFit fitted(LayerProblem& problem, double sparsity, const std::vector<double>& metric, SparseMask& mask) const {
        const LinearLayer& start = problem.start;
        const auto best = [&](const LayerSums& sums, const RefitChoice& choice) { return refit(sums, start, choice).weight; };
        if (method == Method::wanda)
            return chooseConstrained(problem, [&](const LayerSums& sums, const RefitChoice& choice) {
                mask = wandaMask(sums, start, sparsity);
                return withBias(sums, sparseOptimum(hessian(sums, choice), best(sums, choice), sums.outputs, mask), start, choice);
            });
        const auto swept = [&](const LayerSums& sums, const LinearLayer& from, std::vector<double> h, std::vector<double> weights) {
            return sweep(std::move(h), std::move(weights), sums.outputs, pattern_, sparsity, zerosOf(from.weight));
        };
        // To choose between ridges what the sweep leaves is near enough to the best for its pattern.
        const auto trial = [&](const LayerSums& sums, const LinearLayer& from, const RidgeFit& fit) {
            return withBias(sums, swept(sums, from, hessian(sums, fit.choice), fit.layer.weight).weights, from, fit.choice);
        };
        return chooseConstrained(problem, trial, [&](const LayerSums& sums, const RefitChoice& choice) {
            // The quadratic form is made twice rather than kept beside what is made of it.
            const std::vector<double> optimum = best(sums, choice);
            SparseWeights found = options_.solver == Solver::admm
                                      ? alternatingDirections(hessian(sums, choice), optimum, sums.outputs, pattern_, sparsity,
                                                              zerosOf(start.weight), metric)
                                      : swept(sums, start, hessian(sums, choice), optimum);
            mask = std::move(found.mask);
            return withBias(sums, sparseOptimum(hessian(sums, choice), optimum, sums.outputs, mask, found.weights, metric), start, choice);
        }, pattern_.outputs);
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
        "samples that are held back. The zeros are stored like any other value until store-sparse.";
    info.paper =
        "Frantar and Alistarh 2023, SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot; Meng et al. 2024, "
        "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models (solver admm); van der Ouderaa et "
        "al. 2024, The LLM Surgeon (loss model)";
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
        "output. The zeros are stored like any other value until store-sparse.";
    info.paper = "Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models";
    info.data = pipeline::DataNeed::always;
    bindOptions<PruneByOutput<Method::wanda>, Options>(info, optionTable(Method::wanda), checkOptions);
    return info;
}

}  // namespace tcompress::passes
