#include "passes/quantize/storage/weight_storage.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"
#include "passes/quantize/grid/scale_codes.h"
#include "passes/quantize/storage/contrib_format.h"
#include "passes/quantize/storage/packed_codes.h"
#include "passes/quantize/storage/quantized_table.h"
#include "lib/ir/emit.h"
#include "passes/support/raised_opset.h"

namespace tcompress::passes {
namespace {

constexpr std::int64_t kGroupBelow8Bits = 32;
constexpr std::int64_t kSmallestGroup = 16;
/// Codes that one task stores; even, so that two halves of a byte stay together.
constexpr std::int64_t kStoredAtOnce = std::int64_t{1} << 20;
/// Of a model of any size.
constexpr std::uint64_t kResultsInMemory = std::uint64_t{200} << 20;

/// One value a byte as a tensor of the rule's 8- or 4-bit integer type.
template <class Bytes>
Tensor stored(const Shape& shape, Bytes values, const QuantizationRule& rule) {
    const bool isUnsigned = rule.symmetry == Symmetry::asymmetric;
    if (rule.bits == 4) {
        Tensor tensor(isUnsigned ? DType::uint4 : DType::int4, shape);
        const auto bytes = tensor.mutableBytes();
        parallelRanges(std::ssize(values), kStoredAtOnce, [&](std::int64_t begin, std::int64_t end) {
            const auto count = static_cast<std::size_t>(end - begin);
            kernels::packSubByte(tensor.dtype(),
                                 {reinterpret_cast<const std::int8_t*>(values.data()) + begin, count},
                                 bytes.subspan(static_cast<std::size_t>(begin) / 2, (count + 1) / 2));
        });
        return tensor;
    }
    const auto kept = std::make_shared<const Bytes>(std::move(values));
    return Tensor::share(isUnsigned ? DType::uint8 : DType::int8, shape,
                         {kept, reinterpret_cast<const std::byte*>(kept->data())});
}

/// Numbers of the groups in `type`, read as float32.
ir::Value* storedReals(ir::Edit& edit, const std::string& name, const Shape& shape,
                       std::span<const float> values, DType type) {
    ir::Value* stored = edit.addInitializer(name, convert(Tensor::of<float>(shape, values), type));
    return type == DType::float32 ? stored : emitCast(edit, stored, DType::float32);
}

std::string describe(const QuantizationRule& rule) {
    if (isTernary(rule)) return "three levels";
    if (rule.bits == 1) return rule.symmetry == Symmetry::asymmetric ? "two levels" : "its sign";
    return fmt::format("{}int{}", rule.symmetry == Symmetry::asymmetric ? "u" : "", rule.bits);
}

/// Codes in whole blocks of the axis, the last one padded with anything (it is cut off again).
std::vector<std::uint16_t> wholeBlocks(const QuantizedWeights& quantized, int offset) {
    const kernels::QuantizationLayout& layout = quantized.layout;
    const std::int64_t width = layout.blocks() * layout.block;
    std::vector<std::uint16_t> codes(static_cast<std::size_t>(layout.outer * width * layout.inner));
    const std::int64_t row = layout.axis * layout.inner;
    for (std::int64_t outer = 0; outer < layout.outer; ++outer)
        for (std::int64_t i = 0; i < row; ++i)
            codes[static_cast<std::size_t>(outer * width * layout.inner + i)] = static_cast<std::uint8_t>(
                quantized.codes[static_cast<std::size_t>(outer * row + i)] + offset);
    return codes;
}

}  // namespace

void checkStorageOptions(const StorageOptions& options, const std::string& pointer,
                         Diagnostics& diagnostics) {
    if (options.bits == 7)
        diagnostics.add(pointer + "/bits", "7 is not supported; 8, 6, 5, 4, 3, 2 and 1 are");
    if (options.ternary && options.bits != 2)
        diagnostics.add(pointer + "/ternary",
                        fmt::format("three levels take 2 bits, and bits is {}", options.bits));
    const bool isQdq = options.format == WeightFormat::qdq,
               isContrib = options.format == WeightFormat::contrib;
    if ((isQdq || isContrib) && options.bits != 8 && options.bits != 4)
        diagnostics.add(pointer + "/format",
                        fmt::format("{} has no {}-bit integers; use format packed, or 8 or 4 bits",
                                    isQdq ? "qdq" : "contrib", options.bits));
    if (options.scaleType == DType::uint8 && (isContrib || options.bits == 1))
        diagnostics.add(pointer + "/scale_type",
                        isContrib ? "uint8 needs operators that make scales, and format contrib reads them as "
                                    "they are stored; use format qdq or packed"
                                  : "uint8 is for zero points that are codes, which 1 bit has not; use float16");
    if (isContrib && options.groupSize > 0 &&
        !std::has_single_bit(static_cast<std::uint64_t>(options.groupSize)))
        diagnostics.add(pointer + "/group_size",
                        fmt::format("{} is no power of two, which format contrib needs", options.groupSize));
    if (options.groupSize > 0 && options.groupSize < kSmallestGroup)
        diagnostics.add(pointer + "/group_size",
                        fmt::format("{} is too small: 16 or more, or -1 for one scale per output channel",
                                    options.groupSize));
}

WeightQuery WeightStorage::query() const {
    return {options_.targets, options_.ignore, WeightQuery::Tables::always, kFewestValuesToStoreNarrower,
            kFewestTableValuesToStoreNarrower};
}

bool WeightStorage::usesDequantizeLinear() const {
    return options_.format != WeightFormat::packed && (options_.bits == 8 || options_.bits == 4);
}

std::int64_t WeightStorage::groupSize() const {
    if (options_.groupSize != kAutomaticGroup) return options_.groupSize;
    const bool blocks = options_.bits < 8 || options_.format == WeightFormat::contrib;
    return blocks ? kGroupBelow8Bits : kPerChannel;
}

QuantizationRule WeightStorage::rule(const TargetWeight& weight) const {
    QuantizationRule rule = this->rule();
    // Rows are looked up one by one, and a unit holds for many of them.
    if (rule.scaleType == DType::uint8 && !weight.hasLinear()) rule.scaleType = DType::float16;
    return rule;
}

QuantizationRule WeightStorage::rule() const {
    QuantizationRule rule;
    rule.bits = static_cast<int>(options_.bits);
    const bool isBalanced = options_.bits == 8 || options_.bits == 1;
    rule.symmetry = options_.ternary      ? Symmetry::balanced
                    : !options_.symmetric ? Symmetry::asymmetric
                    : isBalanced          ? Symmetry::balanced
                                          : Symmetry::fullRange;
    const bool searches =
        options_.observer == Observer::automatic ? options_.bits < 8 : options_.observer == Observer::mse;
    rule.range = searches ? RangeChoice::mse : RangeChoice::minmax;
    rule.scaleType = options_.scaleType;
    return rule;
}

void WeightStorage::quantizeEach(ir::Model& model, const pipeline::PassContext& context,
                                 const std::vector<TargetWeight>& weights, const Rounding& rounding,
                                 pipeline::PassReport& report) const {
    ir::Edit edit(model, pass_);
    edit.keepInMemory(kResultsInMemory);
    context.progress().begin("quantizing", static_cast<std::int64_t>(weights.size()));
    for (const TargetWeight& weight : weights) {
        const StoragePlan plan = this->plan(weight);
        if (!plan.refusal.empty())
            skip(report, weight, plan.refusal);
        else if (auto quantized = rounding(weight, plan.layout))
            store(edit, weight, std::move(*quantized), report);
        else
            skip(report, weight, kNotFinite);
        releaseIfMapped(weight.constant->constant()->bytes());
        context.progress().step();
    }
    context.progress().end();
    edit.commit();
}

std::vector<TargetWeight> WeightStorage::weights(ir::Model& model, const pipeline::PassContext& context,
                                                 pipeline::PassReport& report) const {
    if (options_.requantize)
        restoreToRequantize(model, context, {options_.targets, options_.ignore}, pass_, report);
    raiseOpset(model, context, report);
    return targetWeights(context.view(model), query(), report);
}

/// Scales of an axis came with opset 13, blocks and 4-bit integers with 21; unpacking and looking rows up
/// need neither.
void WeightStorage::raiseOpset(ir::Model& model, const pipeline::PassContext& context,
                               pipeline::PassReport& report) const {
    if (!usesDequantizeLinear()) return;
    const bool modern = options_.bits == 4 || groupSize() > 0;
    const std::int64_t needed = modern ? kOpsetOfBlocks : kOpsetOfScalesPerChannel;
    if (model.opset() >= needed) return;
    pipeline::PassReport unused;
    const std::vector<TargetWeight> weights = targetWeights(context.view(model), query(), unused);
    if (std::none_of(weights.begin(), weights.end(), [](const auto& weight) { return weight.hasLinear(); }))
        return;
    raiseOpsetFor(model, needed, modern ? "blocks and 4-bit integers" : "scales per channel", pass_, report);
}

StoragePlan WeightStorage::plan(const TargetWeight& weight) const {
    const Shape& shape = weight.constant->constant()->shape();
    StoragePlan plan;
    if (shape.size() != 2) {
        const bool convolution = weight.sites.front()->node->is("Conv") && weight.outAxis == 0;
        if (!convolution) plan.refusal = fmt::format("its weight has rank {}, not 2", shape.size());
        const std::int64_t block = elementCount(shape) / std::max<std::int64_t>(1, shape[0]);
        plan.layout = groupedLayout({shape[0], block}, 1, block);
        return plan;
    }
    const std::int64_t length = shape[weight.inAxis];
    plan.perChannel = groupSize() == kPerChannel || groupSize() >= length;
    plan.layout = groupedLayout(shape, weight.inAxis, plan.perChannel ? length : groupSize());
    for (const analysis::Site* site : weight.sites)
        if (isEmbedding(*site) && plan.refusal.empty())
            plan.refusal =
                QuantizedTable::refusal(*site->node, static_cast<int>(options_.bits), plan.layout.blocks());
    return plan;
}

void WeightStorage::store(ir::Edit& edit, const TargetWeight& weight, QuantizedWeights quantized,
                          pipeline::PassReport& report, double error) const {
    const StoragePlan plan = this->plan(weight);
    // A table that is a linear layer's weight too has to be dequantized as a whole in any case.
    if (options_.format == WeightFormat::contrib && contribRefusal(weight, plan.layout).empty()) {
        storeForContrib(edit, weight, quantized);
    } else if (!weight.hasLinear()) {
        QuantizedTable table(edit, weight.constant->name(), quantized);
        for (const analysis::Site* site : weight.sites) table.readBy(*site->node);
    } else if (usesDequantizeLinear()) {
        dequantizeLinear(edit, weight, plan, quantized);
    } else {
        unpack(edit, weight, quantized);
    }
    const std::string change =
        fmt::format("{} to {}, {}", describe(*weight.constant->constant()), describe(quantized.rule),
                    plan.perChannel ? std::string("a scale per channel")
                                    : fmt::format("a scale per {} weights", plan.layout.block));
    for (const analysis::Site* site : weight.sites)
        report.changed.push_back({site->name, change, error < 0 ? quantized.relativeError : error});
}

void WeightStorage::dequantizeLinear(ir::Edit& edit, const TargetWeight& weight, const StoragePlan& plan,
                                     QuantizedWeights& quantized) const {
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
        edit.addInitializer(name + "_quantized", stored(shape, std::move(quantized.codes), quantized.rule));
    std::vector<ir::Value*> inputs{codes, storedScales(edit, name, scaleShape, quantized)};
    if (!quantized.zeroPoints.empty())
        inputs.push_back(edit.addInitializer(name + "_zero_point",
                                             stored(scaleShape, std::move(quantized.zeroPoints), quantized.rule)));
    std::vector<ir::Attribute> attributes;
    attributes.reserve(2);
    attributes.push_back(
        {"axis", static_cast<std::int64_t>(plan.perChannel ? weight.outAxis : weight.inAxis)});
    if (!plan.perChannel) attributes.push_back({"block_size", plan.layout.block});
    edit.replaceAllUses(weight.constant,
                        emit(edit, "DequantizeLinear", std::move(inputs), std::move(attributes)));
}

void WeightStorage::unpack(ir::Edit& edit, const TargetWeight& weight, const QuantizedWeights& quantized) {
    const std::string& name = weight.constant->name();
    const Shape& shape = weight.constant->constant()->shape();
    const kernels::QuantizationLayout& layout = quantized.layout;
    const QuantizationRule& rule = quantized.rule;
    const std::int64_t blocks = layout.blocks();
    const Shape grouped{layout.outer, blocks, layout.block, layout.inner};
    const Shape perGroup{layout.outer, blocks, 1, layout.inner};
    const auto unpacked = [&](const char* suffix, std::span<const std::uint16_t> codes, const Shape& target) {
        PackedCodes packed(edit, name + suffix, rule.bits, codes, 1,
                           isTernary(rule) ? Packing::trits : Packing::fields);
        ir::Value* real = packed.all();
        const auto count = static_cast<std::int64_t>(codes.size());
        if (packed.entries() != count) real = emitSliceLast(edit, real, 0, count);
        return emit(edit, "Reshape", {real, emitIntegers(edit, target)});
    };
    const int offset = storedOffset(rule);
    ir::Value* zero = nullptr;
    if (rule.symmetry != Symmetry::asymmetric) {
        const float taken = static_cast<float>(offset) + quantized.zeroOf(0);
        zero = edit.addInitializer("offset", Tensor::scalar<float>(taken));
    } else if (!quantized.realZeros.empty()) {
        zero = storedReals(edit, name + "_zero_point", perGroup, quantized.realZeros, rule.scaleType);
    } else {
        const std::vector<std::uint16_t> zeros(quantized.zeroPoints.begin(), quantized.zeroPoints.end());
        zero = unpacked("_zero_point", zeros, perGroup);
    }
    ir::Value* real = unpacked("_quantized", wholeBlocks(quantized, offset), grouped);
    real =
        emit(edit, "Mul", {emit(edit, "Sub", {real, zero}), storedScales(edit, name, perGroup, quantized)});
    if (blocks * layout.block != layout.axis) {
        real = emit(edit, "Reshape",
                    {real, emitIntegers(edit, {layout.outer, blocks * layout.block, layout.inner})});
        real =
            emit(edit, "Slice",
                 {real, emitIntegers(edit, {0}), emitIntegers(edit, {layout.axis}), emitIntegers(edit, {1})});
    }
    real = emit(edit, "Reshape", {real, emitIntegers(edit, shape)});
    edit.replaceAllUses(weight.constant, real);
}

}  // namespace tcompress::passes
