// Removes channels of the residual stream for good: columns of embeddings and of what writes to the stream, rows of what
// reads it, gains and biases of normalizations. Every matrix of the model gets smaller.
//
//   width 384:  embeddings [V, 384], Q K V up [384, …], O down […, 384], norms [384]   →   the same with 288
//
// A LayerNorm over fewer channels is not a LayerNorm over masked ones: means and variances are others. Without calibration
// data the result equals the original whose normalizations leave the removed channels out of their statistics. With them
// channels are chosen by what all that reads the stream would miss once its weights for the others are fitted again (obs.h),
// and then, in the order of the graph on the model as edited so far, the affine part of every normalization and the weights of
// every reader are fitted to what they gave.
//
// Sources: Sreenivas et al. 2024, "LLM Pruning and Distillation in Practice: The Minitron Approach" (width by activations);
// Kurtic et al. 2023, "ZipLM" (structures one at a time). Not handled: streams that leave the model as an output (refused).

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "kernels/linalg.h"
#include "lib/analysis/shrink.h"
#include "lib/support/error.h"
#include "passes/passes.h"
#include "passes/support/affine_refit.h"
#include "passes/support/compensation.h"
#include "passes/support/evidence.h"
#include "passes/support/layerwise.h"
#include "passes/support/obs.h"

namespace tcompress::passes {
namespace {

using analysis::AtomId;
using analysis::Site;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "prune/hidden";
/// While channels are chosen the readers' targets are their own outputs: a ridge only keeps the matrices regular.
constexpr RefitChoice kForChoice{0.01, 0, BiasFit::fitted, 0};

enum class Importance { automatic, magnitude, reconstruction };

struct Options {
    double sparsity = 0.25;
    std::optional<std::int64_t> width;
    Importance importance = Importance::automatic;
    std::int64_t multiple = 8;
    std::optional<bool> compensate;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("sparsity", &Options::sparsity, "share of the channels to remove")
        .alias("ratio")
        .range(0.0, 1.0)
        .option("width", &Options::width, "channels to keep, instead of a share")
        .range(1, 1 << 24)
        .choice("importance", &Options::importance,
                {{"auto", Importance::automatic},
                 {"magnitude", Importance::magnitude},
                 {"reconstruction", Importance::reconstruction}},
                "what makes a channel worth keeping: the size of the weights that read it; or what all that reads the stream "
                "would miss without it once the other channels' weights are fitted again. auto takes reconstruction when there "
                "are calibration data")
        .option("multiple", &Options::multiple, "round the channels that stay up to a multiple of this: matrix kernels like multiples of 8")
        .range(1, 4096)
        .option("compensate", &Options::compensate,
                "fit what reads the stream and the normalizations again on the calibration data; left out: when there are calibration data");
    return table;
}

class PruneHidden : public pipeline::Pass {
  public:
    explicit PruneHidden(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        const bool compensates = options_.compensate.value_or(context.hasCalibration());
        // Gains and biases are written one by one: equal ones that an exporter merged come apart.
        if (compensates) analysis::unshareVectors(model);
        const TransformerView& view = context.view(model);
        const ResidualStream residual = residualStream(view, kPass);
        const std::int64_t channels = view.axes->store->leafSize(residual.leaf);
        const std::int64_t keep = options_.width.value_or(
            keptUnits(channels, {-1, options_.sparsity, Scope::layer, options_.multiple}));
        PassReport report;
        if (keep >= channels) {
            report.skipped.push_back({"residual stream", "nothing to remove at this share, width and multiple"});
            return report;
        }
        std::vector<bool> probe(static_cast<std::size_t>(channels), true);
        probe.front() = false;
        if (const auto reasons = analysis::shrinkRefusals(model, *view.axes, {{residual.leaf, probe}}, analysis::NormalizedAxes::cut);
            !reasons.empty()) {
            report.skipped.push_back({"residual stream", fmt::format("{}", fmt::join(reasons, "; "))});
            return report;
        }
        const std::vector<bool> mask = choose(model, context, view, residual, keep, report);
        const ir::Model reference = compensates ? model.clone() : ir::Model();
        const analysis::ShrinkReport shrunk =
            analysis::shrink(model, *view.axes, {{residual.leaf, mask}}, kPass, analysis::NormalizedAxes::cut);
        report.notes.insert(report.notes.end(), shrunk.notes.begin(), shrunk.notes.end());
        const std::string change = fmt::format("{} channels to {}", channels, keep);
        report.changed.push_back({"residual stream", change});
        if (compensates) compensate(model, reference, context, mask, report);
        return report;
    }

  private:
    std::vector<bool> choose(const ir::Model& model, const PassContext& context, const TransformerView& view,
                             const ResidualStream& residual, std::int64_t keep, PassReport& report) const {
        const bool byData = options_.importance == Importance::reconstruction ||
                            (options_.importance == Importance::automatic && context.hasCalibration());
        const std::int64_t channels = view.axes->store->leafSize(residual.leaf);
        if (!byData) {
            report.notes.push_back("channels ranked by the L2 norm of the weights that read them");
            UnitGroup group{"residual stream", std::vector<double>(static_cast<std::size_t>(channels))};
            for (const Site* reader : residual.readers) {
                if (!scoringRefusal(*reader).empty()) continue;
                const std::vector<double> own = squaredWeights(view, *reader, residual.leaf);
                for (std::size_t c = 0; c < own.size(); ++c) group.scores[c] += own[c];
            }
            return selectUnits({group}, {channels - keep, 0, Scope::layer, /*multiple=*/1}).front();
        }
        report.notes.push_back("channels chosen by what those that read the stream miss without them");
        const data::Split samples = context.calibrationSplit(kPass, "channels are chosen on data", kHeldBackShare);
        const RemovalOrder order =
            removalOrder(problems(model, view, residual, samples, context), static_cast<std::size_t>(channels - keep));
        std::vector<bool> mask(static_cast<std::size_t>(channels), true);
        for (const std::size_t channel : order.groups) mask[channel] = false;
        return mask;
    }

    /// One problem for each value that is read: its readers' weights side by side, each divided by the size of its output.
    static std::vector<RemovalProblem> problems(const ir::Model& model, const TransformerView& view, const ResidualStream& residual,
                                                const data::Split& samples, const PassContext& context) {
        PassReport unusable;
        const std::vector<TargetWeight> weights = targetWeights(view, {}, unusable);
        std::map<const ir::Value*, std::vector<const Site*>> byInput;
        for (const TargetWeight& weight : weights)
            for (const Site* site : weight.sites)
                if (refitRefusal(weight).empty() &&
                    std::find(residual.readers.begin(), residual.readers.end(), site) != residual.readers.end())
                    byInput[site->input].push_back(site);
        if (byInput.empty())
            throw PassError(fmt::format("{}: no float32 layer reads the stream; take importance magnitude", kPass));
        std::vector<EvidenceQuery> queries;
        std::vector<const std::vector<const Site*>*> groups;
        for (const Site& site : view.sites)  // the graph's order, not that of addresses
            if (const auto found = byInput.find(site.input); found != byInput.end() && found->second.front() == &site) {
                queries.push_back({site.input, site.output, nullptr});
                groups.push_back(&found->second);
            }
        const std::vector<Evidence> evidence = collectEvidence(model, model, queries, samples, context.environment());
        std::vector<RemovalProblem> result;
        for (std::size_t i = 0; i < groups.size(); ++i) {
            const LayerSums sums = evidence[i].all();
            RemovalProblem problem{hessian(sums, kForChoice), {}, 0, {}};
            problem.groups.resize(static_cast<std::size_t>(view.axes->store->leafSize(residual.leaf)));
            const Site& first = *groups[i]->front();
            const auto positions =
                leafPositions(*view.axes->store, view.axes->axes.at(first.weight).at(first.inAxis), residual.leaf);
            for (std::size_t p = 0; p < positions.size(); ++p)
                if (positions[p] >= 0)
                    problem.groups[static_cast<std::size_t>(positions[p])].push_back(static_cast<std::int64_t>(p));
            for (const Site* site : *groups[i]) append(problem, readLayer(*site).weight, sums.inputs);
            result.push_back(std::move(problem));
        }
        return result;
    }

    static void append(RemovalProblem& problem, const std::vector<double>& weight, std::int64_t inputs) {
        const std::int64_t outputs = static_cast<std::int64_t>(weight.size()) / inputs;
        std::vector<double> weighted(weight.size());
        kernels::gemm(kernels::Transposition::no, kernels::Transposition::no, inputs, outputs, inputs, problem.hessian, weight, weighted);
        double size = 0;
        for (std::size_t i = 0; i < weight.size(); ++i) size += weight[i] * weighted[i];
        const double scale = size > 0 ? 1 / std::sqrt(size) : 0.0;
        std::vector<double> joined;
        for (std::int64_t row = 0; row < inputs; ++row) {
            joined.insert(joined.end(), problem.weights.begin() + row * problem.outputs, problem.weights.begin() + (row + 1) * problem.outputs);
            for (std::int64_t o = 0; o < outputs; ++o) joined.push_back(scale * weight[static_cast<std::size_t>(row * outputs + o)]);
        }
        problem.weights = std::move(joined);
        problem.outputs += outputs;
    }

    /// In the order of the graph: affine parts of normalizations, and all that reads one value.
    static void compensate(ir::Model& model, const ir::Model& reference, const PassContext& context,
                           const std::vector<bool>& mask, PassReport& report) {
        const data::Split samples = context.calibrationSplit(kPass, "compensate fits what reads the stream again", kHeldBackShare);
        const TransformerView& view = context.view(model);
        const ResidualStream residual = residualStream(view, kPass);
        std::vector<std::int64_t> kept;
        for (std::size_t c = 0; c < mask.size(); ++c)
            if (mask[c]) kept.push_back(static_cast<std::int64_t>(c));
        PassReport unusable;
        const std::vector<TargetWeight> weights = targetWeights(view, {}, unusable);
        std::map<std::size_t, std::vector<const TargetWeight*>> readers;  // by the position of the first
        std::map<const ir::Value*, std::size_t> placeOfInput;
        for (const TargetWeight& weight : weights) {
            const Site& site = *weight.sites.front();
            if (std::find(residual.readers.begin(), residual.readers.end(), &site) == residual.readers.end()) continue;
            if (!refitRefusal(weight).empty() || writesTo(view, site, residual.leaf)) continue;
            const std::size_t place = placeOfInput.try_emplace(site.input, site.node->position()).first->second;
            readers[place].push_back(&weight);
        }
        std::map<std::size_t, AffineSite> norms;
        for (const AffineSite& site : affineSites(model, *view.axes, residual.leaf)) norms.emplace(site.position(), site);
        std::set<std::size_t> places;
        for (const auto& [place, ignored] : readers) places.insert(place);
        for (const auto& [place, ignored] : norms) places.insert(place);
        for (const std::size_t place : places) {
            if (const auto norm = norms.find(place); norm != norms.end())
                if (const ir::Value* before = reference.graph().find(norm->second.output->name()))
                    refitAffine(model, reference, norm->second, *before, kept, samples.fit, context.environment());
            if (const auto group = readers.find(place); group != readers.end())
                fitLayerwise(model, reference, view, group->second, samples, context.environment(),
                             [&](const LayerProblem& problem) { return fitAgain(problem, report); });
        }
    }

    /// From the stream to the stream: its output has other channels than it had.
    static bool writesTo(const TransformerView& view, const Site& site, AtomId leaf) {
        const auto leaves = view.axes->store->leaves(view.axes->axes.at(site.weight).at(site.outAxis));
        return std::find(leaves.begin(), leaves.end(), leaf) != leaves.end();
    }

    static LinearLayer fitAgain(const LayerProblem& problem, PassReport& report) {
        const Refitted fitted = refitWhereBetter(problem.evidence, problem.start, problem.bias);
        report.changed.push_back(
            {problem.weight->name(),
             fitted.choice ? fmt::format("output error {:.3f}, {:.3f} with the weights fitted again", fitted.errorBefore(),
                                         fitted.errorAfter())
                           : fmt::format("output error {:.3f}; fitted again it would be no better", fitted.errorBefore()),
             fitted.errorAfter()});
        return fitted.layer;
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo pruneHidden() {
    pipeline::PassInfo info;
    info.type = "prune";
    info.method = "hidden";
    info.summary = "remove channels of the residual stream; every matrix of the model shrinks";
    info.details =
        "Cuts the width of the model: embeddings, normalizations, and all that writes to or reads the residual stream. With "
        "calibration data channels are chosen by what those that read the stream miss without them, and normalizations and "
        "readers are fitted again in the order of the graph. A model whose stream is an output of the graph is refused.";
    info.paper = "Sreenivas et al. 2024, LLM Pruning and Distillation in Practice: The Minitron Approach";
    info.data = pipeline::DataNeed::optional;
    bindOptions<PruneHidden, Options>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
