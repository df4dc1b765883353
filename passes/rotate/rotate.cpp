// Turns what flows through the model so that no channel stands out, without changing what it computes: quantization
// behind this pass finds weights, and activations, of one size.
//
//   residual stream x  →  x · Q      tables and output projections · Q, what reads the stream: Q · diag(γ) · W,
//                                    norms keep their place with gains of 1 (residual_stream.h)
//   values v           →  v · R      head by head, output projections: R · W (value_channels.h)
//
// Q and R are random orthogonal matrices of even entries (orthogonal.h); R is the same for all heads of a layer. Nothing
// is added to the graph. The outputs change by rounding only.
//
// Sources: Ashkboos et al. 2024, "QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs"; Ashkboos et al. 2024,
// "SliceGPT" (folding norms); Q that keeps means, so that LayerNorm needs no change: see orthogonal.h.
//
// Not handled: the stream of post-norm models (a norm's gain is part of their stream), streams that the model shows
// as an output, fused norms with residual additions inside, values that come out of one product with queries and keys.

#include "lib/ir/edit.h"
#include "passes/passes.h"
#include "passes/rotate/orthogonal.h"
#include "passes/rotate/residual_stream.h"
#include "passes/rotate/value_channels.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "rotate";

struct Options {
    bool residual = true;
    bool values = true;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("residual", &Options::residual, "turn the residual stream")
        .option("values", &Options::values, "turn the values of each attention head");
    return table;
}

class Rotate : public pipeline::Pass {
  public:
    explicit Rotate(const Options& options) : options_(options) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        if (options_.residual) {
            // Gains that an exporter merged come apart; when nothing is turned the model stays as it was.
            ir::Model trial = model.clone();
            analysis::unshareVectors(trial);
            ir::Edit edit(trial, kPass);
            turnStream(edit, trial, context.view(trial), context, report);
            edit.commit();
            if (!report.changed.empty()) model = std::move(trial);
        }
        if (options_.values) {
            // The first edit has changed constants, which the view's sites name, and nothing of its structure.
            const analysis::TransformerView& now = context.view(model);
            ir::Edit edit(model, kPass);
            for (const ValueChannels& channels : valueChannels(now)) turnValues(edit, channels, context, report);
            edit.commit();
        }
        return report;
    }

  private:
    static void turnStream(ir::Edit& edit, const ir::Model& model, const analysis::TransformerView& view,
                           const PassContext& context, PassReport& report) {
        const StreamPlan plan = planStream(model, view);
        if (!plan.refusal.empty()) {
            report.skipped.push_back({"residual stream", plan.refusal});
            return;
        }
        const std::vector<double> rotation = randomRotation(view.hiddenSize, context.random("residual stream"));
        for (const auto& [constant, turned] : plan.constants) {
            Tensor value = *constant->constant();
            for (const TurnedConstant::Axis& axis : turned.axes)
                value = rotated(value, axis.axis, rotation,
                                axis.gain < 0 ? std::span<const float>{}
                                              : plan.gains[static_cast<std::size_t>(axis.gain)].gain().data<float>());
            edit.setConstant(constant, value);
        }
        for (const AffineSite& norm : plan.gains) removeGain(edit, norm, rotation);
        for (const analysis::Site& site : view.sites)
            if (site.weight != nullptr && plan.constants.contains(site.weight))
                report.changed.push_back({site.name, describe(*site.weight->constant()) +
                                                         " turned with the residual stream"});
    }

    /// γ becomes 1; β, which γ and the rotation now come behind, Q·(β / γ).
    static void removeGain(ir::Edit& edit, const AffineSite& norm, std::span<const double> rotation) {
        const auto gain = norm.gain().data<float>();
        const std::vector<float> ones(gain.size(), 1.0F);
        edit.replaceInput(norm.gainNode, norm.gainSlot,
                          edit.addInitializer("gain", Tensor::of<float>(norm.gain().shape(), std::span<const float>(ones))));
        if (norm.bias() == nullptr) return;
        std::vector<float> inverse;
        for (const float value : gain) inverse.push_back(1 / value);
        const Tensor turned = rotated(*norm.bias(), norm.bias()->shape().size() - 1, rotation, inverse);
        edit.replaceInput(norm.biasNode, norm.biasSlot, edit.addInitializer("bias", turned));
    }

    static void turnValues(ir::Edit& edit, const ValueChannels& channels, const PassContext& context,
                           PassReport& report) {
        if (!channels.refusal.empty()) {
            const analysis::Site* site = channels.values != nullptr ? channels.values : channels.output;
            report.skipped.push_back({site == nullptr ? "attention" : site->name, channels.refusal});
            return;
        }
        const analysis::Site &values = *channels.values, &output = *channels.output;
        const std::vector<double> rotation = randomRotation(channels.headSize, context.random(values.name));
        edit.setConstant(values.weight, byHeads(*values.weight->constant(), values.outAxis, rotation));
        if (values.bias != nullptr)
            edit.setConstant(values.bias,
                             byHeads(*values.bias->constant(), values.bias->constant()->shape().size() - 1, rotation));
        edit.setConstant(output.weight, byHeads(*output.weight->constant(), output.inAxis, rotation));
        for (const analysis::Site* site : {&values, &output})
            report.changed.push_back({site->name, describe(*site->weight->constant()) + " turned by heads"});
    }

    /// Each stretch of the axis as long as the rotation, turned.
    static Tensor byHeads(const Tensor& tensor, std::size_t axis, std::span<const double> rotation) {
        std::int64_t size = 1;
        while (size * size < std::ssize(rotation)) ++size;
        Shape split = tensor.shape();
        split[axis] /= size;
        split.insert(split.begin() + static_cast<std::ptrdiff_t>(axis) + 1, size);
        return rotated(tensor.reshaped(split), axis + 1, rotation).reshaped(tensor.shape());
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo rotate() {
    pipeline::PassInfo info;
    info.type = "rotate";
    info.summary = "turns the residual stream and the heads' values so that no channel stands out; changes no output";
    info.details =
        "Multiplies the weights around the residual stream with a random orthogonal matrix and folds the norms' gains "
        "into the layers behind them; the values of each attention head likewise. What the model computes stays the "
        "same, and quantization behind it finds fewer outliers. Post-norm models keep their residual stream as it "
        "is. Nothing is added to the graph.";
    info.paper = "Ashkboos et al. 2024, QuaRot: Outlier-Free 4-Bit Inference in Rotated LLMs";
    info.defaultMethod = true;
    info.movesValues = true;
    bindOptions<Rotate>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
