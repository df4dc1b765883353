#include "passes/quantize/int8/int8_form.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "passes/quantize/solver/layer_evidence.h"
#include "passes/quantize/storage/quantized_table.h"
#include "passes/support/channel_map.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {

using analysis::Site;
using pipeline::PassReport;

std::string int8Refusal(const Site& site, const Tensor& weight) {
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

namespace {

/// Codes of a weight as MatMulInteger wants them, [in, out].
Tensor integerMatrix(const QuantizedWeights& weights, const TargetWeight& target) {
    Tensor codes(DType::int8, target.constant->constant()->shape());
    std::copy(weights.codes.begin(), weights.codes.end(),
              reinterpret_cast<std::uint8_t*>(codes.mutableBytes().data()));
    return target.inAxis == 0 ? codes : transpose(codes, {1, 0});
}

}  // namespace

class Int8Form::Rewriter {
  public:
    Rewriter(ir::Edit& edit, const std::map<const TargetWeight*, PreparedWeight>& prepared, PassReport& report)
        : edit_(edit), report_(report) {
        for (const auto& [weight, item] : prepared)
            readers_[item.smoothing.get()].push_back(weight->sites.front()->node);
    }

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
        rewrite(weight, prepared != nullptr ? outputsScaled(*quantized, *prepared) : *quantized, prepared);
        for (const Site* site : sites)
            report_.changed.push_back({site->name,
                                       fmt::format("{} to int8, a scale per {}", describe(constant),
                                                   isEmbedding(*site) ? "row" : "output channel"),
                                       prepared != nullptr ? prepared->error : quantized->relativeError});
    }

  private:
    /// The codes of an input with their scale and zero point.
    struct QuantizedInput {
        ir::Value* codes = nullptr;
        ir::Value* scale = nullptr;
        ir::Value* zeroPoint = nullptr;
        ir::Value* real = nullptr;  ///< what the codes stand for; null until a layer reads it
    };

    /// All of the weight's sites, or none: a weight that one site still needs as float32 would be stored
    /// twice.
    std::vector<const Site*> acceptedSites(const TargetWeight& weight, const Tensor& constant) {
        std::string reason;
        for (const Site* site : weight.sites) {
            const std::string own = isEmbedding(*site)
                                        ? (constant.rank() == 2 ? QuantizedTable::refusal(*site->node, 8, 1)
                                                                : std::string("its table is no matrix"))
                                        : int8Refusal(*site, constant);
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

    static QuantizedWeights outputsScaled(QuantizedWeights codes, const PreparedWeight& prepared) {
        if (prepared.outputFactors.empty()) return codes;
        for (std::size_t c = 0; c < codes.scales.size(); ++c) codes.scales[c] *= prepared.outputFactors[c];
        codes.rule.scaleType = DType::float32;
        return codes;
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
            const bool isStatic = prepared != nullptr && prepared->activation;
            ir::Value*& scale = scales[alpha];
            if (scale == nullptr)
                scale = scaleVector(name, quantized, alpha,
                                    isStatic || alpha != 1 ? DType::float32 : quantized.rule.scaleType);
            if (isStatic && becomesGemm(*site) && codedGemm(*site, codes, scale, scaled(quantized, alpha), *prepared))
                continue;
            rewriteProduct(weight, *site, codes, scale, prepared);
        }
    }

    static std::vector<float> scaled(const QuantizedWeights& quantized, float alpha) {
        std::vector<float> values = quantized.scales;
        for (float& value : values) value *= alpha;
        return values;
    }

    ir::Value* scaleVector(const std::string& name, const QuantizedWeights& quantized, float alpha, DType type) {
        const std::vector<float> values = scaled(quantized, alpha);
        const Tensor scales =
            Tensor::of<float>({static_cast<std::int64_t>(values.size())}, std::span<const float>(values));
        ir::Value* stored = edit_.addInitializer(name + "_scale", convert(scales, type));
        return type == DType::float32 ? stored : emitCast(edit_, stored, DType::float32);
    }

    void rewriteProduct(const TargetWeight& weight, const Site& site, ir::Value* codes, ir::Value* scale,
                        const PreparedWeight* prepared) {
        ir::Node& node = *site.node;
        ir::Value* added = prepared == nullptr ? nullptr : addedConstant(weight, *prepared);
        ir::Value* bias = node.is("Gemm") ? scaledBias(node) : nullptr;
        QuantizedInput& input = quantizedInput(site.input, prepared);
        const bool isReal = prepared != nullptr && prepared->activation && !becomesGemm(site);
        Product product = isReal ? realProduct(node, input, {codes, scale}) : integerProduct(node, input, codes, scale);
        for (ir::Value* term : {bias, added}) {
            if (term == nullptr) continue;
            product.result = emit(edit_, "Add", {product.result, term});
            if (product.reader == nullptr) product.reader = product.result->producer();
        }
        if (product.result == node.output()) return;
        edit_.replaceAllUses(node.output(), product.result, {product.reader});
        replaced_[node.output()] = product.result;
    }

    /// ONNX Runtime makes MatMul and Add one Gemm where the input is a matrix, and a Gemm multiplies codes only when its
    /// bias is int32 codes.
    static bool becomesGemm(const Site& site) {
        if (site.node->is("Gemm")) return site.node->input(2) != nullptr;
        const auto shape = site.input->shape();
        return site.biasNode != nullptr && site.biasNode->is("Add") && (!shape || shape->size() == 2);
    }

    /// What is added behind a layer, with what its evidence adds; nothing when that is no constant vector.
    static std::vector<float> constantBias(const Site& site, const PreparedWeight& prepared) {
        const Tensor* stored = site.bias == nullptr ? nullptr : site.bias->constant();
        const auto outputs = static_cast<std::size_t>(site.outFeatures);
        if (stored == nullptr || (stored->size() != 1 && stored->size() != site.outFeatures)) return {};
        std::vector<float> values = toFloat32(*stored);
        values.resize(outputs, values.front());
        const bool isGemm = site.node->is("Gemm");
        const float alpha = isGemm ? site.node->attributeFloat("alpha", 1) : 1;
        const float beta = isGemm ? site.node->attributeFloat("beta", 1) : 1;
        for (std::size_t c = 0; c < outputs; ++c) {
            values[c] = beta * values[c] + alpha * prepared.constant[c];
            if (!prepared.outputFactors.empty()) values[c] *= prepared.outputFactors[c];
        }
        return values;
    }

    /// Constant ranges: Gemm of codes with a bias whose codes are in units of both scales. False, and nothing done, when
    /// the rank is not known to be 2 or the bias does not fit.
    bool codedGemm(const Site& site, ir::Value* codes, ir::Value* scale, std::vector<float> scales,
                   const PreparedWeight& prepared) {
        const std::vector<float> bias = constantBias(site, prepared);
        const auto shape = site.input->shape();
        if (bias.empty() || (!site.node->is("Gemm") && !shape)) return false;
        constexpr float kLargest = 1 << 30;
        std::vector<std::int32_t> units;
        for (std::size_t c = 0; c < bias.size(); ++c) {
            scales[c] *= prepared.activation->scale;
            const float unit = std::nearbyint(bias[c] / scales[c]);
            if (!(std::fabs(unit) < kLargest)) return false;
            units.push_back(static_cast<std::int32_t>(unit));
        }
        ir::Node& node = *site.node;
        const std::string name = site.bias->name();
        const auto count = static_cast<std::int64_t>(units.size());
        ir::Value* biasCodes = edit_.addInitializer(
            name + "_quantized", Tensor::of<std::int32_t>({count}, std::span<const std::int32_t>(units)));
        ir::Value* real = emit(edit_, "DequantizeLinear", {biasCodes, vector(name + "_scale", scales)},
                               {{"axis", std::int64_t{0}}});
        // Without zero points ONNX Runtime fuses MatMul, but not Gemm.
        ir::Value* zeros = edit_.addInitializer(codes->name() + "_zero_point", Tensor(DType::int8, {count}));
        realProduct(node, quantizedInput(site.input, &prepared), {codes, scale, zeros});
        edit_.setOpType(&node, "Gemm");
        edit_.replaceInput(&node, 2, real);
        if (site.biasNode == nullptr) return true;
        edit_.replaceAllUses(site.biasNode->output(), node.output());
        replaced_[site.biasNode->output()] = node.output();
        return true;
    }

    /// What stands for a layer's output.
    struct Product {
        ir::Value* result = nullptr;
        const ir::Node* reader = nullptr;  ///< of the node's own output; null while that is the result
    };

    void becomes(ir::Node& node, const char* opType) {
        edit_.setOpType(&node, opType);
        for (const char* attribute : {"alpha", "beta", "transA", "transB"})
            if (node.attribute(attribute) != nullptr) edit_.removeAttribute(&node, attribute);
        if (node.inputs().size() > 2) edit_.replaceInput(&node, 2, nullptr);
    }

    /// Constant ranges: MatMul of what both codes stand for.
    Product realProduct(ir::Node& node, QuantizedInput& input, std::vector<ir::Value*> weight) {
        becomes(node, "MatMul");
        if (input.real == nullptr)
            input.real = emit(edit_, "DequantizeLinear", {input.codes, input.scale, input.zeroPoint});
        edit_.replaceInput(&node, 0, input.real);
        edit_.replaceInput(&node, 1, emit(edit_, "DequantizeLinear", std::move(weight), {{"axis", std::int64_t{1}}}));
        return {node.output(), nullptr};
    }

    /// Ranges measured on each run: MatMulInteger, and what it means.
    Product integerProduct(ir::Node& node, const QuantizedInput& input, ir::Value* codes, ir::Value* scale) {
        becomes(node, "MatMulInteger");
        edit_.replaceInput(&node, 0, input.codes);
        edit_.replaceInput(&node, 1, codes);
        edit_.replaceInput(&node, 2, input.zeroPoint);
        ir::Value* sums = emitCast(edit_, node.output(), DType::float32);
        return {emit(edit_, "Mul", {sums, emit(edit_, "Mul", {input.scale, scale})}), sums->producer()};
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
        std::vector<float> added = prepared.constant;
        const bool isZero = std::all_of(added.begin(), added.end(), [](float value) { return value == 0; });
        auto bias = biasBehind(weight);
        if (bias && !(isZero && prepared.outputFactors.empty())) {
            bias->add(added);
            bias->scale(prepared.outputFactors);
            edit_.setConstant(bias->value, bias->changed);
        }
        if (bias || isZero || prepared.smoothing->shifts.empty()) return nullptr;
        const ir::Node& node = *weight.sites.front()->node;
        const float alpha = node.is("Gemm") ? node.attributeFloat("alpha", 1) : 1;
        for (std::size_t c = 0; c < added.size(); ++c)
            added[c] *= prepared.outputFactors.empty() ? alpha : prepared.outputFactors[c];
        return vector(weight.constant->name() + "_constant", added);
    }

    ir::Value* vector(const std::string& name, const std::vector<float>& values) {
        return edit_.addInitializer(name, Tensor::of<float>({static_cast<std::int64_t>(values.size())},
                                                            std::span<const float>(values)));
    }

    QuantizedInput& quantizedInput(ir::Value* input, const PreparedWeight* prepared) {
        const Smoothing* smoothing = prepared == nullptr ? nullptr : prepared->smoothing.get();
        if (const auto found = replaced_.find(input); found != replaced_.end()) input = found->second;
        const auto [place, isNew] = inputs_.try_emplace({input, smoothing});
        if (!isNew) return place->second;
        const std::string name = input->name();
        if (smoothing != nullptr) {
            ChannelMap map = smoothing->map();
            if (prepared->factorsTaken) map.factors.clear();
            input = mapChannels(edit_, input, readers_.at(smoothing), map);
        }
        if (prepared != nullptr && prepared->activation) {
            ir::Value* scale = edit_.addInitializer(name + "_input_scale",
                                                    Tensor::scalar<float>(prepared->activation->scale));
            ir::Value* zero = edit_.addInitializer(
                name + "_input_zero_point", Tensor::scalar<std::uint8_t>(prepared->activation->zeroPoint));
            place->second = {emit(edit_, "QuantizeLinear", {input, scale, zero}), scale, zero, nullptr};
            return place->second;
        }
        ir::NodeSpec spec;
        spec.opType = "DynamicQuantizeLinear";
        spec.inputs = {input};
        spec.outputCount = 3;
        ir::Node* node = edit_.addNode(std::move(spec));
        place->second = {node->output(0), node->output(1), node->output(2), nullptr};
        return place->second;
    }

    ir::Edit& edit_;
    PassReport& report_;
    /// Who reads the inputs of each smoothing.
    std::map<const Smoothing*, std::vector<const ir::Node*>> readers_;
    /// By what is quantized and how that is smoothed.
    std::map<std::pair<const ir::Value*, const Smoothing*>, QuantizedInput> inputs_;
    std::map<const ir::Value*, ir::Value*> replaced_;  ///< outputs of rewritten sites
};

Int8Form::Int8Form(ir::Edit& edit, const std::map<const TargetWeight*, PreparedWeight>& prepared, PassReport& report)
    : rewriter_(std::make_unique<Rewriter>(edit, prepared, report)) {}

Int8Form::~Int8Form() = default;

void Int8Form::quantize(const TargetWeight& weight, const QuantizationRule& rule, const PreparedWeight* prepared) {
    rewriter_->quantize(weight, rule, prepared);
}

}  // namespace tcompress::passes
