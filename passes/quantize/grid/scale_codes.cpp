#include "passes/quantize/grid/scale_codes.h"

#include <algorithm>
#include <cmath>

#include "lib/support/check.h"
#include "lib/support/parallel.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

/// Calls visit(place of a weight, its group) for all weights of one outer index.
template <class Visit>
void forEachWeight(const kernels::QuantizationLayout& layout, std::int64_t outer, const Visit& visit) {
    for (std::int64_t axis = 0; axis < layout.axis; ++axis) {
        const std::int64_t place = (outer * layout.axis + axis) * layout.inner;
        const std::int64_t group = (outer * layout.blocks() + axis / layout.block) * layout.inner;
        for (std::int64_t inner = 0; inner < layout.inner; ++inner)
            visit(static_cast<std::size_t>(place + inner), static_cast<std::size_t>(group + inner));
    }
}

/// Groups that hold anything but zeros: the scale of the others is arbitrary.
std::vector<bool> groupsInUse(const QuantizedWeights& quantized) {
    std::vector<bool> used(quantized.scales.size(), false);
    for (std::int64_t outer = 0; outer < quantized.layout.outer; ++outer)
        forEachWeight(quantized.layout, outer, [&](std::size_t place, std::size_t group) {
            const bool isZero = quantized.zeroPoints.empty()
                                    ? quantized.codes[place] == 0
                                    : quantized.codes[place] == quantized.zeroPoints[group];
            if (!isZero) used[group] = true;
        });
    return used;
}

void encodeUnit(QuantizedWeights& quantized, const std::vector<bool>& used, std::size_t begin, std::size_t end,
                int limit) {
    float largest = 0;
    for (std::size_t group = begin; group < end; ++group)
        if (used[group]) largest = std::max(largest, std::fabs(quantized.scales[group]));
    const float unit = largest > 0 ? largest / static_cast<float>(limit) : 1;
    for (std::size_t group = begin; group < end; ++group) {
        int code = 1;
        if (used[group]) {
            const float ratio = std::nearbyint(std::fabs(quantized.scales[group]) / unit);
            code = std::clamp(static_cast<int>(ratio), 1, limit);
            if (quantized.scales[group] < 0) code = -code;
        }
        quantized.scaleCodes[group] = static_cast<std::uint8_t>(code);
        quantized.scales[group] = static_cast<float>(code) * unit;
    }
    quantized.scaleUnits.push_back(unit);
}

bool hasSigns(const QuantizationRule& rule) { return rule.symmetry == Symmetry::fullRange; }

}  // namespace

void encodeScales(QuantizedWeights& quantized, std::span<const float> weights) {
    const std::vector<bool> used = groupsInUse(quantized);
    const std::size_t groups = quantized.scales.size();
    quantized.scaleCodes.resize(groups);
    quantized.scaleUnits.clear();
    for (std::size_t begin = 0; begin < groups; begin += kScalesPerUnit)
        encodeUnit(quantized, used, begin, std::min(groups, begin + kScalesPerUnit),
                   hasSigns(quantized.rule) ? 127 : 255);
    quantized.rule.scaleType = DType::uint8;
    const CodeRange range = codeRange(quantized.rule);
    parallelFor(quantized.layout.outer, [&](std::int64_t outer) {
        forEachWeight(quantized.layout, outer, [&](std::size_t place, std::size_t group) {
            const int zero = quantized.zeroPoints.empty() ? 0 : quantized.zeroPoints[group];
            const float steps =
                std::nearbyint(std::clamp(weights[place] / quantized.scales[group], -1e6F, 1e6F));
            const int code = std::clamp(static_cast<int>(steps) + zero, range.low, range.high);
            quantized.codes[place] = static_cast<std::uint8_t>(code);
        });
    });
    measureRelativeError(quantized, weights);
}

ir::Value* storedScales(ir::Edit& edit, const std::string& name, const Shape& shape,
                        const QuantizedWeights& quantized) {
    const DType type = quantized.rule.scaleType;
    if (type != DType::uint8) {
        const Tensor scales = Tensor::of<float>(shape, std::span<const float>(quantized.scales));
        ir::Value* stored = edit.addInitializer(name + "_scale", convert(scales, type));
        return type == DType::float32 ? stored : emitCast(edit, stored, DType::float32);
    }
    const auto groups = static_cast<std::int64_t>(quantized.scaleCodes.size());
    const auto units = static_cast<std::int64_t>(quantized.scaleUnits.size());
    const std::int64_t each = units == 1 ? groups : kScalesPerUnit;
    Tensor codes(hasSigns(quantized.rule) ? DType::int8 : DType::uint8, {units, each});
    TCOMPRESS_CHECK(static_cast<std::int64_t>(codes.sizeBytes()) >= groups, "codes of scales without units");
    std::copy(quantized.scaleCodes.begin(), quantized.scaleCodes.end(),
              reinterpret_cast<std::uint8_t*>(codes.mutableBytes().data()));
    ir::Value* scale = emitCast(edit, edit.addInitializer(name + "_scale", std::move(codes)), DType::float32);
    scale = emit(edit, "Mul",
                 {scale, edit.addInitializer(name + "_scale_unit",
                                             Tensor::of<float>({units, 1}, std::span<const float>(
                                                                               quantized.scaleUnits)))});
    if (units * each != groups) {
        scale = emit(edit, "Reshape", {scale, emitIntegers(edit, {-1})});
        scale = emitSliceLast(edit, scale, 0, groups);
    }
    return emit(edit, "Reshape", {scale, emitIntegers(edit, shape)});
}

}  // namespace tcompress::passes
