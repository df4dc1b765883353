#include "passes/quantize/int8_layers.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "lib/ir/edit.h"
#include "lib/support/mapped_file.h"
#include "passes/quantize/layer_evidence.h"
#include "passes/quantize/quantized_table.h"
#include "passes/support/emit.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

/// What α is searched among.
const std::vector<double> kExponents{0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};

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

class Int8Rewriter {
  public:
    Int8Rewriter(ir::Edit& edit, PassReport& report) : edit_(edit), report_(report) {}

    void quantize(const TargetWeight& weight, const QuantizationRule& linearRule,
                  const PreparedWeight* prepared) {
        const Tensor& constant = *weight.constant->constant();
        const std::vector<const Site*> sites = acceptedSites(weight, constant);
        if (sites.empty()) return;
        QuantizationRule rule = linearRule;
        if (!weight.hasLinear()) rule.balancedLimit = 0;
        const auto quantized =
            prepared != nullptr
                ? std::optional(prepared->codes)
                : quantizeWeights(
                      constant.data<float>(),
                      groupedLayout(constant.shape(), weight.inAxis, constant.shape()[weight.inAxis]), rule);
        if (!quantized) return skip(report_, weight, kNotFinite);
        rewrite(weight, *quantized, prepared);
        for (const Site* site : sites)
            report_.changed.push_back({site->name,
                                       fmt::format("{} to int8, a scale per {}", describe(constant),
                                                   isEmbedding(*site) ? "row" : "output channel"),
                                       prepared != nullptr ? prepared->error : quantized->relativeError});
    }

  private:
    /// All of the weight's sites, or none: a weight that one site still needs as float32 would be stored
    /// twice.
    std::vector<const Site*> acceptedSites(const TargetWeight& weight, const Tensor& constant) {
        std::string reason;
        for (const Site* site : weight.sites) {
            const std::string own = isEmbedding(*site)
                                        ? (constant.rank() == 2 ? QuantizedTable::refusal(*site->node, 8, 1)
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

    void rewrite(const TargetWeight& weight, const QuantizedWeights& quantized,
                 const PreparedWeight* prepared) {
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
                codes = table ? emit(edit_, "Transpose", {table->codes()},
                                     {{"perm", std::vector<std::int64_t>{1, 0}}})
                              : edit_.addInitializer(name + "_quantized", integerMatrix(quantized, weight));
            const float alpha = site->node->is("Gemm") ? site->node->attributeFloat("alpha", 1) : 1;
            ir::Value*& scale = scales[alpha];
            if (scale == nullptr) scale = scaleVector(name, quantized, alpha);
            rewriteProduct(weight, *site, codes, scale, prepared);
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

    void rewriteProduct(const TargetWeight& weight, const Site& site, ir::Value* codes, ir::Value* scale,
                        const PreparedWeight* prepared) {
        ir::Node& node = *site.node;
        ir::Value* added = prepared == nullptr ? nullptr : addedConstant(weight, *prepared);
        ir::Value* bias = node.is("Gemm") ? scaledBias(node) : nullptr;
        const QuantizedInput& input = quantizedInput(site.input, prepared);
        edit_.setOpType(&node, "MatMulInteger");
        for (const char* attribute : {"alpha", "beta", "transA", "transB"})
            if (node.attribute(attribute) != nullptr) edit_.removeAttribute(&node, attribute);
        edit_.replaceInput(&node, 0, input.codes);
        edit_.replaceInput(&node, 1, codes);
        edit_.replaceInput(&node, 2, input.zeroPoint);
        ir::Value* sums = emitCast(edit_, node.output(), DType::float32);
        const ir::Node* reader = sums->producer();
        ir::Value* scales = emit(edit_, "Mul", {input.scale, scale});
        ir::Value* result = emit(edit_, "Mul", {sums, scales});
        if (bias != nullptr) result = emit(edit_, "Add", {result, bias});
        if (added != nullptr) result = emit(edit_, "Add", {result, added});
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

    /// What is to be added to the layer's output: put into the constant behind it where that is possible,
    /// else returned. The mean error of rounding alone is not worth an operator of its own.
    ir::Value* addedConstant(const TargetWeight& weight, const PreparedWeight& prepared) {
        if (std::all_of(prepared.constant.begin(), prepared.constant.end(),
                        [](float value) { return value == 0; }))
            return nullptr;
        if (auto bias = biasBehind(weight)) {
            bias->add(prepared.constant);
            edit_.setConstant(bias->value, bias->changed);
            return nullptr;
        }
        if (prepared.smoothing->shifts.empty()) return nullptr;
        std::vector<float> values = prepared.constant;
        const ir::Node& node = *weight.sites.front()->node;
        const float alpha = node.is("Gemm") ? node.attributeFloat("alpha", 1) : 1;
        for (float& value : values) value *= alpha;
        return vector(weight.constant->name() + "_constant", values);
    }

    ir::Value* vector(const std::string& name, const std::vector<float>& values) {
        return edit_.addInitializer(name, Tensor::of<float>({static_cast<std::int64_t>(values.size())},
                                                            std::span<const float>(values)));
    }

    /// (x − z) / s.
    ir::Value* smoothed(ir::Value* input, const Smoothing& smoothing) {
        std::vector<float> factors, offsets;
        for (std::size_t i = 0; i < std::max(smoothing.scales.size(), smoothing.shifts.size()); ++i) {
            factors.push_back(smoothing.scales.empty() ? 1.0F : 1.0F / smoothing.scales[i]);
            if (!smoothing.shifts.empty()) offsets.push_back(-smoothing.shifts[i] * factors.back());
        }
        const std::string name = input->name();
        if (!smoothing.scales.empty())
            input = emit(edit_, "Mul", {input, vector(name + "_factors", factors)});
        if (!offsets.empty()) input = emit(edit_, "Add", {input, vector(name + "_offsets", offsets)});
        return input;
    }

    /// The codes of an input with their scale and zero point.
    struct QuantizedInput {
        ir::Value* codes = nullptr;
        ir::Value* scale = nullptr;
        ir::Value* zeroPoint = nullptr;
    };

    const QuantizedInput& quantizedInput(ir::Value* input, const PreparedWeight* prepared) {
        const bool smooths = prepared != nullptr && !prepared->smoothing->isIdentity();
        const Smoothing* smoothing = smooths ? prepared->smoothing.get() : nullptr;
        if (const auto found = replaced_.find(input); found != replaced_.end()) input = found->second;
        const auto [place, isNew] = inputs_.try_emplace({input, smoothing});
        if (!isNew) return place->second;
        const std::string name = input->name();
        if (smooths) input = smoothed(input, *smoothing);
        if (prepared != nullptr && prepared->activation) {
            ir::Value* scale = edit_.addInitializer(name + "_input_scale",
                                                    Tensor::scalar<float>(prepared->activation->scale));
            ir::Value* zero = edit_.addInitializer(
                name + "_input_zero_point", Tensor::scalar<std::uint8_t>(prepared->activation->zeroPoint));
            place->second = {emit(edit_, "QuantizeLinear", {input, scale, zero}), scale, zero};
            return place->second;
        }
        ir::NodeSpec spec;
        spec.opType = "DynamicQuantizeLinear";
        spec.inputs = {input};
        spec.outputCount = 3;
        ir::Node* node = edit_.addNode(std::move(spec));
        place->second = {node->output(0), node->output(1), node->output(2)};
        return place->second;
    }

    ir::Edit& edit_;
    PassReport& report_;
    /// By what is quantized and how that is smoothed.
    std::map<std::pair<const ir::Value*, const Smoothing*>, QuantizedInput> inputs_;
    std::map<const ir::Value*, ir::Value*> replaced_;  ///< outputs of rewritten sites
};

/// A layer whose input has no range that could be a constant.
void skipUnobserved(const TargetWeight& weight, PassReport& report) {
    const std::string own = refusal(*weight.sites.front(), *weight.constant->constant());
    skip(report, weight,
         !own.empty() ? own
         : weight.sites.size() > 1
             ? std::string("its weight is used at several places, whose inputs have different ranges")
             : std::string(
                   "its input or its weight is not finite, or was never computed on the calibration data"));
}

void noteSmoothing(const std::map<const TargetWeight*, PreparedWeight>& prepared, PassReport& report) {
    std::size_t scaled = 0, shifted = 0;
    for (const auto& [weight, item] : prepared) {
        scaled += item.smoothing->scales.empty() ? 0 : 1;
        shifted += item.smoothing->shifts.empty() ? 0 : 1;
    }
    report.notes.push_back(
        fmt::format("{} of {} weights are behind a smoothed input, {} of them behind a shifted one", scaled,
                    prepared.size(), shifted));
}

std::map<const TargetWeight*, PreparedWeight> prepare(const std::vector<TargetWeight>& weights,
                                                      const ir::Model& model, const PassContext& context,
                                                      const QuantizationRule& rule,
                                                      const Int8Options& options, const char* pass,
                                                      const std::optional<ActivationRange>& activations,
                                                      PassReport& report) {
    const bool smooths = options.smooth == Smooth::automatic;
    if (options.maxError) context.calibration(pass, "max_error is measured on samples");
    if (!activations && (!context.hasCalibration() || (!smooths && options.rounding == Rounding8::nearest)))
        return {};
    std::vector<const TargetWeight*> linear;
    for (const TargetWeight& weight : weights)
        if (!weight.hasEmbedding() && refusal(*weight.sites.front(), *weight.constant->constant()).empty())
            linear.push_back(&weight);
    CalibratedInt8Options calibrated;
    if (smooths && options.alpha)
        calibrated.smoothing.exponents = {*options.alpha};
    else if (smooths)
        calibrated.smoothing.exponents = kExponents;
    calibrated.smoothing.shifting = smooths && options.shift ? Shifting::automatic : Shifting::never;
    calibrated.rounding = options.rounding;
    calibrated.activations = activations;
    auto prepared = prepareInt8(linear, model, context, rule, calibrated, pass);
    noteSmoothing(prepared, report);
    return prepared;
}

QuantizationRule weightRule(const Int8Options& options, PassReport& report) {
    QuantizationRule rule;
    rule.range = options.observer;
    rule.scaleType = DType::float16;
    const TargetIsa isa = resolve(options.targetIsa);
    const bool reduced = options.reduceRange == ReduceRange::always ||
                         (options.reduceRange == ReduceRange::automatic && isa != TargetIsa::vnni);
    if (reduced) rule.balancedLimit = kReducedLimit;
    report.notes.push_back(fmt::format(
        "weights of linear layers use {} bits: target {}{} {}", reduced ? 7 : 8, name(isa),
        options.targetIsa == TargetIsa::automatic ? " (this processor)" : "",
        isa == TargetIsa::vnni ? "sums products exactly" : "saturates sums of two products at 16 bits"));
    return rule;
}

}  // namespace

PassReport quantizeToInt8(ir::Model& model, const PassContext& context, const Int8Options& options,
                          const char* pass, const std::optional<ActivationRange>& activations) {
    PassReport report;
    const std::vector<TargetWeight> weights =
        targetWeights(context.view(model),
                      {options.targets, options.ignore, WeightQuery::Tables::always,
                       kFewestValuesToStoreNarrower, kFewestTableValuesToStoreNarrower},
                      report);
    const QuantizationRule rule = weightRule(options, report);
    const auto prepared = prepare(weights, model, context, rule, options, pass, activations, report);
    ir::Edit edit(model, pass);
    Int8Rewriter rewriter(edit, report);
    context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
    for (const TargetWeight& weight : weights) {
        const auto found = prepared.find(&weight);
        if (found != prepared.end() && options.maxError && found->second.error > *options.maxError)
            skip(report, weight,
                 fmt::format("its outputs would be off by {:.2g} of their size, more than max_error {}",
                             found->second.error, *options.maxError));
        else if (found != prepared.end())
            rewriter.quantize(weight, rule, &found->second);
        else if (activations && weight.hasLinear() && !weight.hasEmbedding())
            skipUnobserved(weight, report);
        else
            rewriter.quantize(weight, rule, nullptr);
        releaseIfMapped(weight.constant->constant()->bytes());
        context.progress().step();
    }
    context.progress().end();
    edit.commit();
    return report;
}

}  // namespace tcompress::passes
