// Folds the affine part of normalizations into the linear layers that read them:
//
//   (γ ∘ n + β)·W + b   →   n·(diag(γ)·W) + (b + β·W)
//
// Exact but for rounding. A normalization that is spelled out loses its product and its sum, a fused one keeps a gain of ones
// that all share. Works where only linear layers read the normalization's output: pre-norm models; in post-norm models the
// stream itself reads it, and nothing is changed. Source: Ashkboos et al. 2024, "SliceGPT" (the same step before a rotation).
// Not handled: readers whose weights are quantized or shared with other inputs.

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "passes/passes.h"
#include "lib/ir/emit.h"
#include "passes/support/layer_weights.h"
#include "passes/support/residual_stream.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using analysis::TransformerView;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "norm";

struct Options {
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("targets", &Options::targets, "linear layers that may take a normalization in, by patterns: all that read it must be named")
        .option("ignore", &Options::ignore, "linear layers to leave alone, by patterns");
    return table;
}

/// Layers that read a normalization, or why it cannot be folded into them.
struct Readers {
    std::vector<const TargetWeight*> weights;
    std::string refusal;
};

class FoldNorms : public pipeline::Pass {
  public:
    explicit FoldNorms(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext&) const override {
        // Gains that an exporter merged come apart; what is not folded stays as it was.
        ir::Model trial = model.clone();
        analysis::unshareVectors(trial);
        const TransformerView view = analysis::recognise(trial);
        const ResidualStream stream = residualStream(view, kPass);
        PassReport report, unused;
        const std::vector<TargetWeight> weights = targetWeights(view, {options_.targets, options_.ignore}, unused);
        ir::Edit edit(trial, kPass);
        ir::Value* ones = nullptr;
        for (const AffineSite& site : affineSites(trial, *view.axes, stream.leaf)) {
            const Readers readers = readersOf(view, weights, site, stream.leaf);
            const std::string name = site.gainNode->label();
            if (!readers.refusal.empty()) {
                report.skipped.push_back({name, readers.refusal});
                continue;
            }
            for (const TargetWeight* weight : readers.weights) foldInto(edit, *weight, site);
            takeAway(edit, site, ones);
            std::string into;
            for (const TargetWeight* weight : readers.weights) into += fmt::format("{}'{}'", into.empty() ? "" : ", ", weight->name());
            report.changed.push_back({name, fmt::format("gain{} folded into {}", site.bias() == nullptr ? "" : " and bias", into)});
        }
        if (report.changed.empty()) return report;
        edit.commit();
        model = std::move(trial);
        return report;
    }

  private:
    static Readers readersOf(const TransformerView& view, const std::vector<TargetWeight>& weights, const AffineSite& site,
                             analysis::AtomId leaf) {
        Readers readers;
        std::vector<const ir::Value*> open = {site.output};
        std::set<const Site*> sites;
        while (!open.empty()) {
            const ir::Value* value = open.back();
            open.pop_back();
            for (const ir::Use& use : value->uses()) {
                if (use.kind != ir::UseKind::input)
                    return {{}, use.kind == ir::UseKind::captured ? "it is read inside a sub-graph" : "it is an output of the model"};
                const auto reader = std::find_if(view.sites.begin(), view.sites.end(), [&](const Site& candidate) {
                    return candidate.node == use.node && candidate.input == value && use.index == 0;
                });
                if (reader != view.sites.end()) {
                    sites.insert(&*reader);
                } else if (keepsChannels(view, *use.node, leaf)) {
                    open.push_back(use.node->output());
                } else if (!use.node->is("Shape")) {
                    return {{}, fmt::format("{} '{}' reads it, which is no linear layer", use.node->opType(), use.node->label())};
                }
            }
        }
        for (const TargetWeight& weight : weights) {
            const bool reads = std::any_of(weight.sites.begin(), weight.sites.end(), [&](const Site* one) { return sites.contains(one); });
            if (!reads) continue;
            if (std::string refusal = refitRefusal(weight); !refusal.empty()) return {{}, fmt::format("'{}': {}", weight.name(), refusal)};
            for (const Site* one : weight.sites)
                if (sites.erase(one) == 0) return {{}, fmt::format("'{}' shares its weights with a layer that reads something else", weight.name())};
            readers.weights.push_back(&weight);
        }
        if (!sites.empty()) return {{}, fmt::format("'{}' has no float32 weights of its own, or is left out", (*sites.begin())->name)};
        if (readers.weights.empty()) return {{}, "no linear layer reads it"};
        return readers;
    }

    /// Operators behind which a channel still is a channel, and nothing else of the leaf is mixed in.
    static bool keepsChannels(const TransformerView& view, const ir::Node& node, analysis::AtomId leaf) {
        if (!node.is("Reshape") && !node.is("Identity") && !node.is("Squeeze") && !node.is("Unsqueeze") && !node.is("Flatten")) return false;
        const auto* axes = view.axes->of(node.output());
        return axes != nullptr && !axes->empty() && view.axes->store->leaves(axes->back()) == std::vector<analysis::AtomId>{leaf};
    }

    static void foldInto(ir::Edit& edit, const TargetWeight& weight, const AffineSite& norm) {
        const Site& first = *weight.sites.front();
        const LinearLayer before = readLayer(first);
        const auto gain = norm.gain().data<float>();
        LinearLayer after = before;
        std::vector<double> added(before.bias.size());
        for (std::size_t i = 0; i < gain.size(); ++i)
            for (std::size_t o = 0; o < added.size(); ++o) {
                double& value = after.weight[i * added.size() + o];
                if (norm.bias() != nullptr) added[o] += static_cast<double>(norm.bias()->data<float>()[i]) * value;
                value *= gain[i];
            }
        const bool movesBias = std::any_of(added.begin(), added.end(), [](double value) { return value != 0; });
        const bool hasBias = biasFit(first) == BiasFit::fitted;
        if (hasBias)
            for (std::size_t o = 0; o < added.size(); ++o) after.bias[o] += added[o];
        writeLayer(edit, weight, before, after);
        if (hasBias || !movesBias) return;
        const std::vector<float> values(added.begin(), added.end());
        ir::Value* const bias = edit.addInitializer(weight.constant->name() + "_bias",
                                                    Tensor::of<float>({std::ssize(values)}, std::span<const float>(values)));
        for (const Site* site : weight.sites) {
            ir::Value* const sum = emit(edit, "Add", {site->output, bias});
            edit.replaceAllUses(site->output, sum, {sum->producer()});
        }
    }

    static void takeAway(ir::Edit& edit, const AffineSite& site, ir::Value*& ones) {
        if (site.gainNode->is("Mul")) {
            edit.replaceAllUses(site.output, site.gainNode->input(1 - site.gainSlot));
            return;
        }
        if (ones == nullptr) {
            const std::vector<float> values(static_cast<std::size_t>(site.gain().size()), 1.0F);
            ones = edit.addInitializer("ones", Tensor::of<float>({std::ssize(values)}, std::span<const float>(values)));
        }
        edit.replaceInput(site.gainNode, site.gainSlot, ones);
        if (site.biasNode != nullptr) edit.replaceInput(site.gainNode, site.biasSlot, nullptr);
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo foldNorms() {
    pipeline::PassInfo info;
    info.type = "norm";
    info.method = "fold";
    info.summary = "fold gains and biases of normalizations into the linear layers that read them";
    info.details =
        "Where only linear layers read a LayerNorm or RMSNorm (pre-norm models), its gain goes into their weights and its bias "
        "into theirs, exact but for rounding; a normalization that is spelled out loses two operators.";
    info.paper = "Ashkboos et al. 2024, SliceGPT: Compress Large Language Models by Deleting Rows and Columns";
    info.defaultMethod = true;
    bindOptions<FoldNorms>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
