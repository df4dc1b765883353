// Weight-only quantization: weights are stored as 8- or 4-bit integers, activations stay float32.
//
//   MatMul(x, W)        →  MatMul(x, DequantizeLinear(Wq, scales, zero points))
//   Gather(table, ids)  →  rows gathered as integers, then dequantized (quantized_table.h)
//
// One scale per output channel, or per block of `group_size` weights along the summed axis (opset 21; ONNX
// Runtime turns such a pair into MatMulNBits). Codes are rounded to nearest; at 4 bits the range of a block
// is cut where the squared error is smallest. Scales are stored as float16, which halves what blocks of 32
// cost.
//
// Source: Dettmers et al. 2022, "LLM.int8()" (per-channel round-to-nearest as the baseline); the search for
// the cut: Choukroun et al. 2019, "Low-bit Quantization of Neural Networks for Efficient Inference".
//
// Not handled: products of more than two axes on the weight's side (but convolutions, per channel), tables
// that a fused operator looks up inside, and weights that are not float32.

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/support/mapped_file.h"
#include "passes/passes.h"
#include "passes/quantize/group_quantizer.h"
#include "passes/quantize/quantized_table.h"
#include "passes/support/emit.h"
#include "passes/support/target_weights.h"

namespace tcompress::passes {
namespace {

using analysis::Site;
using pipeline::PassContext;
using pipeline::PassReport;

constexpr const char* kPass = "quantize/weight-only";

constexpr std::int64_t kPerChannel = -1;
constexpr std::int64_t kAutomaticGroup = 0;
constexpr std::int64_t kGroupAt4Bits = 32;

enum class Observer { automatic, minmax, mse };

struct Options {
    std::int64_t bits = 8;
    std::int64_t groupSize = kAutomaticGroup;
    bool symmetric = false;
    Observer observer = Observer::automatic;
    DType scaleType = DType::float16;
    std::vector<std::string> targets, ignore;
};

OptionTable<Options> optionTable() {
    OptionTable<Options> table;
    table.option("bits", &Options::bits, "bits of a weight: 8 or 4")
        .range(4, 8)
        .option("group_size", &Options::groupSize,
                "weights that share a scale, along the summed axis: 16 to 4096; -1: one scale per output "
                "channel; 0: 32 at 4 bits, per channel at 8")
        .alias("block_size")
        .range(kPerChannel, 4096)
        .option("symmetric", &Options::symmetric, "no zero points: smaller, less exact")
        .choice(
            "observer", &Options::observer,
            {{"auto", Observer::automatic}, {"minmax", Observer::minmax}, {"mse", Observer::mse}},
            "range of a group: smallest to largest weight, or the cut with the smallest squared error; auto: "
            "mse at 4 bits, minmax at 8")
        .choice("scale_type", &Options::scaleType, {{"float16", DType::float16}, {"float32", DType::float32}},
                "what scales are stored in")
        .option("targets", &Options::targets, "sites to quantize, by patterns")
        .option("ignore", &Options::ignore, "sites to leave alone, by patterns");
    return table;
}

void checkOptions(const Options& options, const std::string& pointer, Diagnostics& diagnostics) {
    if (options.bits != 8 && options.bits != 4)
        diagnostics.add(pointer + "/bits", fmt::format("{} is not supported; 8 and 4 are", options.bits));
    if (options.groupSize > 0 && options.groupSize < 16)
        diagnostics.add(pointer + "/group_size",
                        fmt::format("{} is too small: 16 or more, or -1 for one scale per output channel",
                                    options.groupSize));
}

/// How one weight is stored.
struct Plan {
    std::int64_t block = 0;  ///< along the input axis; all of it: one scale a channel
    bool perChannel = true;
    std::string refusal;
};

class QuantizeWeightOnly : public pipeline::Pass {
  public:
    explicit QuantizeWeightOnly(Options options) : options_(std::move(options)) {}

    PassReport run(ir::Model& model, const PassContext& context) const override {
        PassReport report;
        raiseOpset(model, context, report);
        const std::vector<TargetWeight> weights = targetWeights(context.view(model), query(), report);
        ir::Edit edit(model, kPass);
        context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
        for (const TargetWeight& weight : weights) {
            quantize(edit, weight, report);
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

    /// Scales of an axis came with opset 13, blocks and 4-bit integers with 21; looking rows up needs
    /// neither.
    void raiseOpset(ir::Model& model, const PassContext& context, PassReport& report) const {
        const bool modern = options_.bits == 4 || groupSize() > 0;
        const std::int64_t needed = modern ? 21 : 13;
        if (model.opset() >= needed) return;
        PassReport unused;
        const std::vector<TargetWeight> weights = targetWeights(context.view(model), query(), unused);
        if (std::none_of(weights.begin(), weights.end(),
                         [](const auto& weight) { return weight.hasLinear(); }))
            return;
        const std::int64_t before = model.opset();
        try {
            model = ir::raiseOpset(std::move(model), needed);
        } catch (const ModelError& problem) {
            throw PassError(fmt::format("{}: {} need opset {} and the model has {}: {}", kPass,
                                        modern ? "blocks and 4-bit integers" : "scales per channel", needed,
                                        before, problem.what()));
        }
        report.notes.push_back(fmt::format("opset raised from {} to {}, which {} need", before, needed,
                                           modern ? "blocks and 4-bit integers" : "scales per channel"));
    }

    std::int64_t groupSize() const {
        if (options_.groupSize != kAutomaticGroup) return options_.groupSize;
        return options_.bits == 4 ? kGroupAt4Bits : kPerChannel;
    }

    QuantizationRule rule() const {
        QuantizationRule rule;
        rule.bits = static_cast<int>(options_.bits);
        rule.symmetry = !options_.symmetric  ? Symmetry::asymmetric
                        : options_.bits == 8 ? Symmetry::balanced
                                             : Symmetry::fullRange;
        const bool searches = options_.observer == Observer::automatic ? options_.bits == 4
                                                                       : options_.observer == Observer::mse;
        rule.range = searches ? RangeChoice::mse : RangeChoice::minmax;
        rule.scaleType = options_.scaleType;
        return rule;
    }

    Plan plan(const TargetWeight& weight) const {
        const Shape& shape = weight.constant->constant()->shape();
        Plan plan;
        if (shape.size() != 2) {
            const bool convolution = weight.sites.front()->node->is("Conv") && weight.outAxis == 0;
            if (!convolution) plan.refusal = fmt::format("its weight has rank {}, not 2", shape.size());
            plan.block = elementCount(shape) / std::max<std::int64_t>(1, shape[0]);
            return plan;
        }
        const std::int64_t length = shape[weight.inAxis];
        plan.perChannel = groupSize() == kPerChannel || groupSize() >= length;
        plan.block = plan.perChannel ? length : groupSize();
        if (!weight.hasEmbedding()) return plan;
        const std::int64_t blocks = (length + plan.block - 1) / plan.block;
        for (const Site* site : weight.sites)
            if (isEmbedding(*site) && plan.refusal.empty())
                plan.refusal = QuantizedTable::refusal(*site->node, blocks);
        return plan;
    }

    void quantize(ir::Edit& edit, const TargetWeight& weight, PassReport& report) const {
        const Tensor& constant = *weight.constant->constant();
        const Plan plan = this->plan(weight);
        if (!plan.refusal.empty()) return skip(report, weight, plan.refusal);
        kernels::QuantizationLayout layout = groupedLayout(constant.shape(), weight.inAxis, plan.block);
        if (constant.rank() != 2) layout = groupedLayout({constant.shape()[0], plan.block}, 1, plan.block);
        const auto quantized = quantizeWeights(constant.data<float>(), layout, rule());
        if (!quantized) return skip(report, weight, "its weight holds NaN or infinity");
        // A table that is a linear layer's weight too has to be dequantized as a whole in any case.
        if (weight.hasLinear()) {
            dequantizeWhole(edit, weight, plan, *quantized);
        } else {
            QuantizedTable table(edit, weight.constant->name(), *quantized);
            for (const Site* site : weight.sites) table.readBy(*site->node);
        }
        const std::string change =
            fmt::format("{} to {}int{}, {}", describe(constant), options_.symmetric ? "" : "u", options_.bits,
                        plan.perChannel ? std::string("a scale per channel")
                                        : fmt::format("a scale per {} weights", plan.block));
        for (const Site* site : weight.sites)
            report.changed.push_back({site->name, change, quantized->relativeError});
    }

    void dequantizeWhole(ir::Edit& edit, const TargetWeight& weight, const Plan& plan,
                         const QuantizedWeights& quantized) const {
        const std::string& name = weight.constant->name();
        const Shape& shape = weight.constant->constant()->shape();
        Shape scaleShape;
        if (plan.perChannel) {
            scaleShape = {shape[weight.outAxis]};
        } else {
            scaleShape = shape;
            scaleShape[weight.inAxis] = quantized.layout.blocks();
        }
        ir::Value* codes =
            edit.addInitializer(name + "_quantized", stored(shape, quantized.codes, quantized.rule));
        const Tensor scales = Tensor::of<float>(scaleShape, std::span<const float>(quantized.scales));
        ir::Value* scale = edit.addInitializer(name + "_scale", convert(scales, quantized.rule.scaleType));
        if (quantized.rule.scaleType != DType::float32) scale = emitCast(edit, scale, DType::float32);
        std::vector<ir::Value*> inputs{codes, scale};
        if (!quantized.zeroPoints.empty())
            inputs.push_back(edit.addInitializer(name + "_zero_point",
                                                 stored(scaleShape, quantized.zeroPoints, quantized.rule)));
        std::vector<ir::Attribute> attributes;
        attributes.reserve(2);
        attributes.push_back(
            {"axis", static_cast<std::int64_t>(plan.perChannel ? weight.outAxis : weight.inAxis)});
        if (!plan.perChannel) attributes.push_back({"block_size", plan.block});
        ir::Value* real = emit(edit, "DequantizeLinear", std::move(inputs), std::move(attributes));
        edit.replaceAllUses(weight.constant, real);
    }

    /// One value a byte as a tensor of the rule's integer type.
    static Tensor stored(const Shape& shape, const std::vector<std::uint8_t>& values,
                         const QuantizationRule& rule) {
        const bool isUnsigned = rule.symmetry == Symmetry::asymmetric;
        if (rule.bits == 4) {
            Tensor tensor(isUnsigned ? DType::uint4 : DType::int4, shape);
            kernels::packSubByte(tensor.dtype(),
                                 {reinterpret_cast<const std::int8_t*>(values.data()), values.size()},
                                 tensor.mutableBytes());
            return tensor;
        }
        Tensor tensor(isUnsigned ? DType::uint8 : DType::int8, shape);
        std::copy(values.begin(), values.end(),
                  reinterpret_cast<std::uint8_t*>(tensor.mutableBytes().data()));
        return tensor;
    }

    Options options_;
};

}  // namespace

pipeline::PassInfo quantizeWeightOnly() {
    pipeline::PassInfo info;
    info.type = "quantize";
    info.method = "weight-only";
    info.summary = "8- or 4-bit weights, per channel or in blocks; activations stay float32";
    info.details =
        "Stores the weights of linear layers, convolutions and embedding tables as integers with float16 "
        "scales, "
        "rounded to nearest. Linear layers read them through DequantizeLinear; embedding rows are looked up "
        "as "
        "integers and dequantized after. Blocks and 4-bit integers raise the model to opset 21.";
    info.paper = "Choukroun et al. 2019, Low-bit Quantization of Neural Networks for Efficient Inference";
    bindOptions<QuantizeWeightOnly>(
        info, optionTable(),
        std::function<void(const Options&, const std::string&, Diagnostics&)>(checkOptions));
    return info;
}

}  // namespace tcompress::passes
