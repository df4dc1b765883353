// Dynamic W8A8 quantization: weights become int8 with a scale per output channel, activations uint8 with a
// range measured on each run.
//
//   y = MatMul(x, W)                     (Gemm likewise, with its bias added behind)
//   ↓
//   xq, sx, zx = DynamicQuantizeLinear(x)          one for all the layers that read x
//   y = Cast(MatMulInteger(xq, Wq, zx)) · (sx · sW)
//
// ONNX Runtime fuses this form into DynamicQuantizeMatMul, or MatMulIntegerToFloat where x is shared; int8
// weights without zero points run about twice as fast there as uint8 ones. Embedding tables are stored as
// int8 rows (quantized_table.h). Scales are stored as float16 and chosen before the codes, which costs
// nothing: a Cast of a constant is folded when the model is loaded.
//
// Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
// Integer-Arithmetic-Only Inference"; per-channel weights: Krishnamoorthi 2018, "Quantizing deep
// convolutional networks for efficient inference". A weight range is its smallest and largest value by
// default: cutting it (observer mse) gains nothing at 8 bits per channel.
//
// Not handled: convolutions (ONNX Runtime has no fused dynamic form), products whose left operand is the
// weight, fused operators that keep their weight inside, and weights that are not float32.

#include <fmt/core.h>

#include <map>
#include <optional>

#include "lib/support/mapped_file.h"
#include "passes/passes.h"
#include "passes/quantize/group_quantizer.h"
#include "passes/quantize/quantized_table.h"
#include "passes/quantize/target_isa.h"
#include "passes/support/emit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/dynamic";

enum class ReduceRange { automatic, always, never };

struct Options {
    std::int64_t bits = 8;
    RangeChoice observer = RangeChoice::minmax;
    ReduceRange reduceRange = ReduceRange::automatic;
    TargetIsa targetIsa = TargetIsa::automatic;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("bits", &Options::bits, "bits of weights and activations")
        .range(8, 8)
        .choice("observer", &Options::observer, {{"minmax", RangeChoice::minmax}, {"mse", RangeChoice::mse}},
                "range of a weight channel: smallest to largest, or the cut with the smallest squared error")
        .choice(
            "reduce_range", &Options::reduceRange,
            {{"auto", ReduceRange::automatic}, {"true", ReduceRange::always}, {"false", ReduceRange::never}},
            "keep weights within 7 bits, so that processors without VNNI do not saturate; auto does so when "
            "the target has no VNNI")
        .choice("target_isa", &Options::targetIsa,
                {{"auto", TargetIsa::automatic}, {"vnni", TargetIsa::vnni}, {"avx2", TargetIsa::avx2}},
                "what the processor that will run the model has; auto: this one's")
        .option("targets", &Options::targets, "sites to quantize, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

/// Largest |code| for which two products with uint8 activations fit int16: 2 · 255 · 64 < 2¹⁵.
constexpr std::int32_t kReducedLimit = 64;

/// Why a linear site cannot take the integer form; empty when it can.
std::string refusal(const Site& site, const Tensor& weight) {
    const ir::Node& node = *site.node;
    if (!node.is("MatMul") && !node.is("Gemm"))
        return fmt::format("{} has no dynamic integer form that ONNX Runtime fuses", node.opType());
    if (weight.rank() != 2) return fmt::format("its weight has rank {}, not 2", weight.rank());
    if (site.input != node.input(0)) return "its weight is the left operand";
    // A type that inference left open (behind contrib operators) is the weight's: the operator takes one
    // type.
    if (site.input->dtype() != DType::float32 && site.input->dtype() != DType::undefined)
        return fmt::format("its input is {}, not float32", name(site.input->dtype()));
    if (node.attributeInt("transA", 0) != 0) return "its input is transposed (transA)";
    for (const ir::Use& use : site.output->uses())
        if (use.kind == ir::UseKind::captured) return "its output is used inside a sub-graph";
    return {};
}

/// Codes of a weight as MatMulInteger wants them, [in, out].
Tensor integerMatrix(const QuantizedWeights& weights, const TargetWeight& target) {
    Tensor codes(DType::int8, target.constant->constant()->shape());
    std::copy(weights.codes.begin(), weights.codes.end(),
              reinterpret_cast<std::uint8_t*>(codes.mutableBytes().data()));
    return target.inAxis == 0 ? codes : transpose(codes, {1, 0});
}

class QuantizeDynamic : public pipeline::Pass {
  public:
    explicit QuantizeDynamic(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        const std::vector<TargetWeight> weights = targetWeights(context.view(model), query(), report);
        const QuantizationRule rule = weightRule(report);
        ir::Edit edit(model, kPass);
        Rewriter rewriter(edit, report);
        context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
        for (const TargetWeight& weight : weights) {
            rewriter.quantize(weight, rule);
            releaseIfMapped(weight.constant->constant()->bytes());
            context.progress().step();
        }
        context.progress().end();
        edit.commit();
        return report;
    }

  private:
    WeightQuery query() const {
        return {options_.targets, options_.ignore, WeightQuery::Tables::always, kFewestValuesToStoreNarrower,
                kFewestTableValuesToStoreNarrower};
    }

    QuantizationRule weightRule(PassReport& report) const {
        QuantizationRule rule;
        rule.range = options_.observer;
        rule.scaleType = DType::float16;
        const TargetIsa isa = resolve(options_.targetIsa);
        const bool reduced = options_.reduceRange == ReduceRange::always ||
                             (options_.reduceRange == ReduceRange::automatic && isa != TargetIsa::vnni);
        if (reduced) rule.balancedLimit = kReducedLimit;
        report.notes.push_back(fmt::format(
            "weights of linear layers use {} bits: target {}{} {}", reduced ? 7 : 8, name(isa),
            options_.targetIsa == TargetIsa::automatic ? " (this processor)" : "",
            isa == TargetIsa::vnni ? "sums products exactly" : "saturates sums of two products at 16 bits"));
        return rule;
    }

    class Rewriter {
      public:
        Rewriter(ir::Edit& edit, PassReport& report) : edit_(edit), report_(report) {}

        void quantize(const TargetWeight& weight, const QuantizationRule& linearRule) {
            const Tensor& constant = *weight.constant->constant();
            const std::vector<const Site*> sites = acceptedSites(weight, constant);
            if (sites.empty()) return;
            QuantizationRule rule = linearRule;
            if (!weight.hasLinear()) rule.balancedLimit = 0;
            const auto quantized = quantizeWeights(
                constant.data<float>(),
                groupedLayout(constant.shape(), weight.inAxis, constant.shape()[weight.inAxis]), rule);
            if (!quantized) {
                skip(report_, weight, "its weight holds NaN or infinity");
                return;
            }
            rewrite(weight, *quantized);
            for (const Site* site : sites)
                report_.changed.push_back({site->name,
                                           fmt::format("{} to int8, a scale per {}", describe(constant),
                                                       isEmbedding(*site) ? "row" : "output channel"),
                                           quantized->relativeError});
        }

      private:
        /// All of the weight's sites, or none: a weight that one site still needs as float32 would be stored
        /// twice.
        std::vector<const Site*> acceptedSites(const TargetWeight& weight, const Tensor& constant) {
            std::string reason;
            for (const Site* site : weight.sites) {
                const std::string own = isEmbedding(*site)
                                            ? (constant.rank() == 2 ? QuantizedTable::refusal(*site->node, 1)
                                                                    : std::string("its table is no matrix"))
                                            : refusal(*site, constant);
                if (own.empty()) continue;
                reason = site == weight.sites.front()
                             ? own
                             : fmt::format("its weight is shared with '{}': {}", site->name, own);
                break;
            }
            if (reason.empty()) return weight.sites;
            skip(report_, weight, reason);
            return {};
        }

        void rewrite(const TargetWeight& weight, const QuantizedWeights& quantized) {
            const std::string& name = weight.constant->name();
            std::optional<QuantizedTable> table;
            if (weight.hasEmbedding()) table.emplace(edit_, name, quantized);
            ir::Value* codes = nullptr;
            std::map<float, ir::Value*> scales;  // by alpha
            for (const Site* site : weight.sites) {
                if (isEmbedding(*site)) {
                    ir::Value* rows = site->output;
                    replaced_[rows] = table->readBy(*site->node);
                    continue;
                }
                // A table that is also a linear layer's weight is stored once, by rows.
                if (codes == nullptr)
                    codes = table
                                ? emit(edit_, "Transpose", {table->codes()},
                                       {{"perm", std::vector<std::int64_t>{1, 0}}})
                                : edit_.addInitializer(name + "_quantized", integerMatrix(quantized, weight));
                const float alpha = site->node->is("Gemm") ? site->node->attributeFloat("alpha", 1) : 1;
                ir::Value*& scale = scales[alpha];
                if (scale == nullptr) scale = scaleVector(name, quantized, alpha);
                rewriteProduct(*site, codes, scale);
            }
        }

        ir::Value* scaleVector(const std::string& name, const QuantizedWeights& quantized, float alpha) {
            std::vector<float> values = quantized.scales;
            for (float& value : values) value *= alpha;
            const Tensor scales =
                Tensor::of<float>({static_cast<std::int64_t>(values.size())}, std::span<const float>(values));
            const DType type = alpha == 1 ? quantized.rule.scaleType : DType::float32;
            ir::Value* stored = edit_.addInitializer(name + "_scale", convert(scales, type));
            return type == DType::float32 ? stored : emitCast(edit_, stored, DType::float32);
        }

        void rewriteProduct(const Site& site, ir::Value* codes, ir::Value* scale) {
            ir::Node& node = *site.node;
            ir::Value* bias = node.is("Gemm") ? scaledBias(node) : nullptr;
            const ir::Node& input = quantizedInput(site.input);
            edit_.setOpType(&node, "MatMulInteger");
            for (const char* attribute : {"alpha", "beta", "transA", "transB"})
                if (node.attribute(attribute) != nullptr) edit_.removeAttribute(&node, attribute);
            edit_.replaceInput(&node, 0, input.output(0));
            edit_.replaceInput(&node, 1, codes);
            edit_.replaceInput(&node, 2, input.output(2));
            ir::Value* sums = emitCast(edit_, node.output(), DType::float32);
            const ir::Node* reader = sums->producer();
            ir::Value* scales = emit(edit_, "Mul", {input.output(1), scale});
            ir::Value* result = emit(edit_, "Mul", {sums, scales});
            if (bias != nullptr) result = emit(edit_, "Add", {result, bias});
            edit_.replaceAllUses(node.output(), result, {reader});
            replaced_[node.output()] = result;
        }

        /// Gemm's third operand times beta; null when there is none.
        ir::Value* scaledBias(const ir::Node& gemm) {
            ir::Value* bias = gemm.input(2);
            const float beta = gemm.attributeFloat("beta", 1);
            if (bias == nullptr || beta == 1) return bias;
            return emit(edit_, "Mul", {bias, edit_.addInitializer("beta", Tensor::scalar<float>(beta))});
        }

        const ir::Node& quantizedInput(ir::Value* input) {
            if (const auto found = replaced_.find(input); found != replaced_.end()) input = found->second;
            const ir::Node*& node = inputs_[input];
            if (node == nullptr) {
                ir::NodeSpec spec;
                spec.opType = "DynamicQuantizeLinear";
                spec.inputs = {input};
                spec.outputCount = 3;
                node = edit_.addNode(std::move(spec));
            }
            return *node;
        }

        ir::Edit& edit_;
        PassReport& report_;
        std::map<const ir::Value*, const ir::Node*> inputs_;  ///< DynamicQuantizeLinear by what it reads
        std::map<const ir::Value*, ir::Value*> replaced_;     ///< outputs of rewritten sites
    };

    Options options_;
};

}  // namespace

pipeline::PassInfo quantizeDynamic() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "dynamic";
    info.summary = "int8 weights per channel, uint8 activations measured on each run";
    info.details =
        "Turns linear layers into DynamicQuantizeLinear and MatMulInteger, in the form that ONNX Runtime "
        "fuses, "
        "and stores embedding tables as int8 rows that are dequantized after the look-up. Needs no "
        "calibration "
        "data. Convolutions and fused operators with weights inside are left alone.";
    info.paper =
        "Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient "
        "Integer-Arithmetic-Only Inference";
    info.defaultMethod = true;
    bindOptions<QuantizeDynamic>(info, optionTable());
    return info;
}

}  // namespace tcompress::passes
