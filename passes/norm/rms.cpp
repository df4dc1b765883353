// LayerNorm becomes RMSNorm: the mean that it takes away is made zero where it comes from, in the weights.
//
//   stream  x = Σ table rows + Σ o·W + b        W ← W·(I − 11ᵀ/d),  b ← b − mean b,  rows ← row − mean row
//   norm    γ ∘ (x − mean x)/√(var x + ε) + β   →   γ ∘ x/√(mean x² + ε) + β
//
// Exact but for rounding where all that writes to the stream can be centred and all that reads it are LayerNorms: pre-norm models,
// the embeddings of post-norm ones. The stream of a post-norm model is γ ∘ n + β, whose mean is zero only when all of γ are one
// number: with calibration data such a norm drops the mean all the same, its gain and bias are fitted to what it gave (least
// squares, channel by channel), and it is kept where its output on held-back samples is near enough.
// Sources: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization"; Ashkboos et al. 2024, "SliceGPT" (section 3.2: LayerNorm
// to RMSNorm, means into the weights). Not handled: norms that are fused with a residual addition, other types than float32.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "lib/analysis/targets.h"
#include "lib/calibration/collector.h"
#include "lib/calibration/similarity.h"
#include "lib/ir/load.h"
#include "passes/norm/centred_stream.h"
#include "passes/norm/root_mean_square.h"
#include "passes/passes.h"
#include "passes/support/affine_refit.h"
#include "passes/support/compensation.h"
#include "lib/ir/emit.h"
#include "passes/support/output_judge.h"

namespace tcompress::passes {
namespace {

using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "norm/rms";

struct Options {
    std::optional<bool> fit;
    double maxError = 0.05;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table
        .option("fit", &Options::fit,
                "where the mean cannot be made zero, drop it all the same and fit the norm's gain and bias on "
                "calibration data; left "
                "out: when there are calibration data")
        .option("max_error", &Options::maxError,
                "largest relative error of a fitted norm's output on held-back samples; one that is further off stays "
                "a LayerNorm")
        .range(0, 1)
        .option("targets", &Options::targets, "norms to work on, by globs over their nodes' names; left out: all")
        .option("ignore", &Options::ignore, "norms to leave alone, by globs over their nodes' names");
    return table;
}

/// A constant without the mean along one of its axes.
Tensor centred(const Tensor& tensor, std::size_t axis) {
    Tensor result = tensor;
    const auto values = result.mutableData<float>();
    std::int64_t inner = 1;
    for (std::size_t i = axis + 1; i < tensor.shape().size(); ++i) inner *= tensor.shape()[i];
    const std::int64_t size = tensor.shape()[axis], outer = tensor.size() / (size * inner);
    for (std::int64_t o = 0; o < outer; ++o)
        for (std::int64_t i = 0; i < inner; ++i) {
            const auto at = [&](std::int64_t c) -> float& {
                return values[static_cast<std::size_t>((o * size + c) * inner + i)];
            };
            double sum = 0;
            for (std::int64_t c = 0; c < size; ++c) sum += at(c);
            for (std::int64_t c = 0; c < size; ++c) at(c) = static_cast<float>(at(c) - sum / static_cast<double>(size));
        }
    return result;
}

class RmsNorms : public pipeline::Pass {
  public:
    explicit RmsNorms(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        ir::Model trial = model.clone();
        // Vectors that an exporter merged come apart: not all of their users need be part of the stream.
        analysis::unshareVectors(trial);
        ir::inferTypes(trial);
        PassReport report;
        std::map<std::string, std::string> means = makeZero(trial, report);
        if (!means.empty() && options_.fit.value_or(context.hasCalibration())) fit(trial, context, means, report);
        for (const auto& [name, reason] : means)
            report.skipped.push_back({name, fmt::format("the mean of what it reads cannot be made zero: {}", reason)});
        if (!report.changed.empty()) model = std::move(trial);
        return report;
    }

  private:
    bool isTarget(const ir::Node& norm) const {
        return analysis::globsSelect(options_.targets, options_.ignore, norm.label());
    }

    /// LayerNorms along the leaf that are targets, in graph order. Those of a form that none can be made of are skipped sites.
    std::vector<ir::Node*> layerNorms(const TransformerView& view, const ir::Model& model, analysis::AtomId leaf,
                                      PassReport& report) const {
        std::vector<ir::Node*> norms;
        for (const auto& node : model.graph().nodes()) {
            if (!node->is("LayerNormalization") && !takesMeanAway(*node)) continue;
            const auto* axes = view.axes->of(node->input(0));
            if (axes == nullptr || axes->empty() ||
                view.axes->store->leaves(axes->back()) != std::vector<analysis::AtomId>{leaf})
                continue;
            if (!isTarget(*node)) continue;
            if (const auto reason = normRefusal(*node, axes->size()))
                report.skipped.push_back({node->label(), *reason});
            else
                norms.push_back(node.get());
        }
        return norms;
    }

    /// The exact part; returns the norms that are left, each with the reason.
    std::map<std::string, std::string> makeZero(ir::Model& model, PassReport& report) const {
        const TransformerView view = analysis::recognise(model);
        const analysis::AtomId leaf = residualStream(view, kPass).leaf;
        ir::Edit edit(model, kPass);
        RootMeanSquare rewrite(edit, model.opset());
        std::map<std::string, std::string> left;
        std::set<const ir::Node*> done;
        for (ir::Node* norm : layerNorms(view, model, leaf, report)) {
            if (done.contains(norm)) continue;
            const CentredStream stream = centredStream(view, leaf, *norm->input(0));
            if (!stream.refusal.empty()) {
                left[norm->label()] = stream.refusal;
                continue;
            }
            for (const auto& [constant, axis] : stream.constants)
                edit.setConstant(constant, centred(*constant->constant(), axis));
            for (ir::Node* reader : stream.norms) {
                done.insert(reader);
                if (!isTarget(*reader)) continue;
                rewrite.replace(*reader, biasOf(*reader));
                report.changed.push_back({reader->label(), "LayerNorm to RMSNorm: what it reads has a mean of zero"});
            }
            // Behind the norms: what they became reads the centred rows too.
            for (ir::Value* rows : stream.lookups) {
                ir::Value* const mean = emitMeanOverLast(edit, rows, model.opset());
                ir::Value* const result = emit(edit, "Sub", {rows, mean});
                edit.replaceAllUses(rows, result, {mean->producer(), result->producer()});
                report.notes.push_back(
                    fmt::format("'{}' is used elsewhere too: its rows are centred when they are looked up",
                                rows->producer()->label()));
            }
        }
        if (!edit.empty()) edit.commit();
        return left;
    }

    /// Takes from `left` what it has changed or found too far off.
    void fit(ir::Model& model, const PassContext& context, std::map<std::string, std::string>& left,
             PassReport& report) const {
        const data::Split samples =
            context.calibrationSplit(kPass, "fit finds gains and biases of norms without their mean", kHeldBackShare);
        const data::Dataset& judges = allJudgesOf(samples);
        const ir::Model reference = model.clone();
        const TransformerView view = analysis::recognise(reference);
        const analysis::AtomId leaf = residualStream(view, kPass).leaf;
        for (const AffineSite& site : affineSites(reference, *view.axes, leaf)) {
            const ir::Node* norm = meanOf(site);
            if (norm == nullptr || !left.contains(norm->label())) continue;
            ir::Model trial = model.clone();
            const AffineSite now = withoutMean(trial, *norm, site);
            std::vector<std::int64_t> all(static_cast<std::size_t>(site.gain().size()));
            std::iota(all.begin(), all.end(), 0);
            refitAffine(trial, reference, now, *site.output, all, samples.fit, context.environment());
            calibration::Collector collector(reference, trial);
            const auto& sums = collector.add<calibration::SimilaritySums>(
                calibration::Source(site.output, calibration::Side::original), calibration::Source(now.output));
            context.collect(collector, judges);
            const double error = std::sqrt(sums.result().relativeError());
            if (error > options_.maxError) {
                report.skipped.push_back(
                    {norm->label(), fmt::format("without the mean its output would be {:.4f} off (max_error {})", error,
                                                options_.maxError)});
            } else {
                report.changed.push_back({norm->label(), "LayerNorm to RMSNorm, gain and bias fitted again", error});
                model = std::move(trial);
            }
            left.erase(norm->label());
        }
    }

    /// The node that takes the mean away in front of a gain; null when nothing does.
    static const ir::Node* meanOf(const AffineSite& site) {
        if (site.gainNode->is("LayerNormalization")) return site.gainNode;
        const ir::Node* scaled =
            site.gainNode->is("Mul") ? site.gainNode->input(1 - site.gainSlot)->producer() : nullptr;
        if (scaled == nullptr || (!scaled->is("Div") && !scaled->is("Mul"))) return nullptr;
        for (const ir::Value* input : scaled->inputs())
            if (input->producer() != nullptr && takesMeanAway(*input->producer())) return input->producer();
        return nullptr;
    }

    /// Rewrites the norm in a copy of the model that it and its site are part of; returns the site there.
    static AffineSite withoutMean(ir::Model& copy, const ir::Node& norm, const AffineSite& site) {
        const auto twin = [&](const ir::Node* node) {
            return node == nullptr ? nullptr : copy.graph().find(node->output()->name())->producer();
        };
        ir::Edit edit(copy, kPass);
        RootMeanSquare rewrite(edit, copy.opset());
        if (!norm.is("LayerNormalization")) {
            rewrite.replace(*twin(&norm), nullptr);
            edit.commit();
            return {twin(site.gainNode), site.gainSlot, twin(site.biasNode), site.biasSlot,
                    copy.graph().find(site.output->name())};
        }
        ir::Node* const fused = twin(&norm);
        ir::Value* const gain = fused->input(1);
        ir::Value* bias = biasOf(*fused);
        if (bias == nullptr)
            bias = edit.addInitializer(gain->name() + "_bias", Tensor(DType::float32, {site.gain().size()}));
        rewrite.replace(*fused, bias);
        edit.commit();
        ir::Node *const gainNode = gain->uses().front().node, *const biasNode = bias->uses().front().node;
        return {gainNode, gain->uses().front().index, biasNode, bias->uses().front().index, biasNode->output()};
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo rmsNorms() {
    pipeline::PassInfo info;
    info.type = "norm";
    info.method = "rms";
    info.summary = "LayerNorm becomes RMSNorm, its mean made zero in the weights that write to the stream";
    info.details =
        "In pre-norm models all that writes to the residual stream is centred, and LayerNorms have no mean to take "
        "away: exact but for "
        "rounding. In post-norm models the mean of the stream is not zero; with calibration data the mean is dropped "
        "and gain and bias "
        "are fitted to what the norm gave, where that is near enough. Below opset 23 an RMSNorm is spelled out, and "
        "ONNX Runtime "
        "fuses it.";
    info.paper = "Zhang and Sennrich 2019, Root Mean Square Layer Normalization; Ashkboos et al. 2024, SliceGPT";
    info.data = pipeline::DataNeed::optional;
    info.movesValues = true;
    bindOptions<RmsNorms>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
