#include "passes/quantize/storage/contrib_format.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

constexpr const char* kDomain = "com.microsoft";
constexpr std::int64_t kSmallestBlock = 16;

/// Rows of `columns` values, each row packed to whole bytes, low bits first.
std::vector<std::uint8_t> packedRows(const std::vector<std::uint8_t>& values, std::int64_t columns,
                                     int bits) {
    if (bits == 8) return values;
    const std::int64_t rows = static_cast<std::int64_t>(values.size()) / columns, bytes = (columns + 1) / 2;
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(rows * bytes), 0);
    for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t i = 0; i < columns; ++i) {
            std::uint8_t& byte = packed[static_cast<std::size_t>(row * bytes + i / 2)];
            byte = static_cast<std::uint8_t>(byte | values[static_cast<std::size_t>(row * columns + i)]
                                                        << i % 2 * 4);
        }
    return packed;
}

/// The weight by output channels: codes of whole blocks (stored unsigned), scales and zero points.
struct ByChannel {
    std::vector<std::uint8_t> codes;  ///< [channels, blocks · block]
    std::vector<float> scales;        ///< [channels, blocks]
    std::vector<std::uint8_t> zeroPoints;
};

ByChannel byChannel(const QuantizedWeights& quantized) {
    const kernels::QuantizationLayout& layout = quantized.layout;
    const std::int64_t channels = layout.outer * layout.inner, blocks = layout.blocks();
    const int offset = quantized.zeroPoints.empty() ? 1 << (quantized.rule.bits - 1) : 0;
    ByChannel result;
    result.codes.resize(static_cast<std::size_t>(channels * blocks * layout.block));
    for (std::int64_t channel = 0; channel < channels; ++channel) {
        const std::int64_t outer = channel / layout.inner, inner = channel % layout.inner;
        for (std::int64_t i = 0; i < layout.axis; ++i)
            result.codes[static_cast<std::size_t>(channel * blocks * layout.block + i)] =
                static_cast<std::uint8_t>(
                    quantized
                        .codes[static_cast<std::size_t>((outer * layout.axis + i) * layout.inner + inner)] +
                    offset);
        for (std::int64_t block = 0; block < blocks; ++block) {
            const auto group = static_cast<std::size_t>((outer * blocks + block) * layout.inner + inner);
            result.scales.push_back(quantized.scales[group]);
            if (!quantized.zeroPoints.empty()) result.zeroPoints.push_back(quantized.zeroPoints[group]);
        }
    }
    return result;
}

ir::Value* bytes(ir::Edit& edit, const std::string& name, Shape shape,
                 const std::vector<std::uint8_t>& values) {
    return edit.addInitializer(
        name, Tensor::of<std::uint8_t>(std::move(shape), std::span<const std::uint8_t>(values)));
}

}  // namespace

std::string contribRefusal(const TargetWeight& weight, const kernels::QuantizationLayout& layout) {
    const bool fits =
        layout.block >= kSmallestBlock && std::has_single_bit(static_cast<std::uint64_t>(layout.block));
    if (!fits) return fmt::format("blocks of {} weights are no power of two from 16 on", layout.block);
    for (const analysis::Site* site : weight.sites) {
        const ir::Node& node = *site->node;
        if (isEmbedding(*site)) {
            if (!node.is("Gather") || node.attributeInt("axis", 0) != 0 || weight.hasLinear())
                return "its rows cannot be looked up by GatherBlockQuantized";
            if (layout.axis % layout.block != 0)
                return fmt::format("its rows of {} are no whole blocks of {}", layout.axis, layout.block);
        } else if (!node.is("MatMul") || site->input != node.input(0)) {
            return fmt::format("MatMulNBits does not stand in for {}", node.opType());
        }
    }
    return {};
}

void storeForContrib(ir::Edit& edit, const TargetWeight& weight, const QuantizedWeights& quantized) {
    const std::string& name = weight.constant->name();
    const kernels::QuantizationLayout& layout = quantized.layout;
    const int bits = quantized.rule.bits;
    const std::int64_t channels = layout.outer * layout.inner, blocks = layout.blocks();
    const ByChannel stored = byChannel(quantized);
    const bool isTable = weight.hasEmbedding();
    const std::int64_t blockBytes = layout.block * bits / 8;
    ir::Value* codes =
        bytes(edit, name + "_quantized",
              isTable ? Shape{channels, blocks * blockBytes} : Shape{channels, blocks, blockBytes},
              packedRows(stored.codes, layout.block, bits));
    const Tensor scales = Tensor::of<float>(isTable ? Shape{channels, blocks} : Shape{channels * blocks},
                                            std::span<const float>(stored.scales));
    ir::Value* scale = edit.addInitializer(name + "_scale", convert(scales, quantized.rule.scaleType));
    ir::Value* zero = nullptr;
    if (!stored.zeroPoints.empty()) {
        const std::vector<std::uint8_t> packed = packedRows(stored.zeroPoints, blocks, bits);
        const auto size = static_cast<std::int64_t>(packed.size());
        zero = bytes(edit, name + "_zero_point", isTable ? Shape{channels, size / channels} : Shape{size},
                     packed);
    }
    edit.requireOpset(kDomain, 1);
    if (isTable) {
        for (const analysis::Site* site : weight.sites) {
            ir::NodeSpec spec;
            spec.opType = "GatherBlockQuantized";
            spec.domain = kDomain;
            spec.name = site->node->name();
            spec.inputs = {codes, site->node->input(1), scale};
            if (zero != nullptr) spec.inputs.push_back(zero);
            spec.attributes = {{"gather_axis", std::int64_t{0}},
                               {"quantize_axis", std::int64_t{1}},
                               {"block_size", layout.block},
                               {"bits", static_cast<std::int64_t>(bits)}};
            ir::Value* rows = edit.addNode(std::move(spec))->output();
            if (quantized.rule.scaleType != DType::float32) rows = emitCast(edit, rows, DType::float32);
            edit.replaceAllUses(site->output, rows);
        }
        return;
    }
    if (quantized.rule.scaleType != DType::float32) scale = emitCast(edit, scale, DType::float32);
    for (const analysis::Site* site : weight.sites) {
        ir::Node* node = site->node;
        edit.setOpType(node, "MatMulNBits", kDomain);
        edit.replaceInput(node, 1, codes);
        edit.replaceInput(node, 2, scale);
        if (zero != nullptr) edit.replaceInput(node, 3, zero);
        edit.setAttribute(node, {"K", layout.axis});
        edit.setAttribute(node, {"N", channels});
        edit.setAttribute(node, {"bits", static_cast<std::int64_t>(bits)});
        edit.setAttribute(node, {"block_size", layout.block});
    }
}

}  // namespace tcompress::passes
