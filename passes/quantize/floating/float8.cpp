#include "passes/quantize/floating/float8.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "passes/quantize/grid/group_quantizer.h"
#include "passes/quantize/storage/quantized_table.h"
#include "lib/ir/emit.h"

namespace tcompress::passes {
namespace {

float largestOf(DType type) { return type == DType::float8e4m3fn ? 448.0F : 57344.0F; }

struct Float8Weight {
    Tensor codes;
    std::vector<float> scales;  ///< by output channel
    double relativeError = 0;
};

/// The weight's values by output channel: [outer, channels, inner].
struct ByChannel {
    std::int64_t channels = 0, inner = 1;

    std::size_t channelOf(std::size_t i) const {
        return i / static_cast<std::size_t>(inner) % static_cast<std::size_t>(channels);
    }
};

ByChannel byChannel(const TargetWeight& weight) {
    const Shape& shape = weight.constant->constant()->shape();
    const std::size_t axis = weight.outAxis;
    return {shape[axis], std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1, shape.end(),
                                         std::int64_t{1}, std::multiplies<>())};
}

std::optional<Float8Weight> encoded(const TargetWeight& weight, DType type) {
    const Tensor& constant = *weight.constant->constant();
    const ByChannel layout = byChannel(weight);
    const auto values = constant.data<float>();
    Float8Weight result;
    result.scales.assign(static_cast<std::size_t>(layout.channels), 0.0F);
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!std::isfinite(values[i])) return std::nullopt;
        float& largest = result.scales[layout.channelOf(i)];
        largest = std::max(largest, std::fabs(values[i]));
    }
    for (float& scale : result.scales) {
        scale /= largestOf(type);
        if (!(scale >= 0x1p-126F)) scale = 1;
    }
    std::vector<float> scaled;
    scaled.reserve(values.size());
    for (std::size_t i = 0; i < values.size(); ++i)
        scaled.push_back(values[i] / result.scales[layout.channelOf(i)]);
    result.codes = convert(Tensor::of<float>(constant.shape(), std::span<const float>(scaled)), type);
    const std::vector<float> after = toFloat32(result.codes);
    double lost = 0, all = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        lost += std::pow(static_cast<double>(after[i]) * result.scales[layout.channelOf(i)] - values[i], 2);
        all += static_cast<double>(values[i]) * values[i];
    }
    if (all > 0) result.relativeError = std::sqrt(lost / all);
    return result;
}

std::string refusal(const TargetWeight& weight) {
    const Shape& shape = weight.constant->constant()->shape();
    const bool convolution = weight.sites.front()->node->is("Conv") && weight.outAxis == 0;
    if (shape.size() != 2 && !convolution) return fmt::format("its weight has rank {}, not 2", shape.size());
    if (weight.hasLinear()) return {};
    for (const analysis::Site* site : weight.sites)
        if (std::string reason = QuantizedTable::refusal(*site->node, 8, 1); !reason.empty()) return reason;
    return {};
}

ir::Value* floats(ir::Edit& edit, const std::string& name, Shape shape, const std::vector<float>& values) {
    return edit.addInitializer(name, Tensor::of<float>(std::move(shape), std::span<const float>(values)));
}

void storeTable(ir::Edit& edit, const TargetWeight& weight, const Float8Weight& stored, DType type) {
    const std::string& name = weight.constant->name();
    Tensor bytes(DType::uint8, stored.codes.shape());
    std::ranges::copy(stored.codes.bytes(), bytes.mutableBytes().begin());
    ir::Value* codes = edit.addInitializer(name + "_float8", std::move(bytes));
    Tensor all(type, {256});
    for (std::size_t code = 0; code < 256; ++code) all.mutableBytes()[code] = static_cast<std::byte>(code);
    std::vector<float> table = toFloat32(all);
    for (float& number : table)
        if (!std::isfinite(number)) number = 0;  // codes that no weight has
    ir::Value* numbers = floats(edit, "float8_numbers", {256}, table);
    ir::Value* scales = floats(edit, name + "_scale",
                               {static_cast<std::int64_t>(stored.scales.size()), 1}, stored.scales);
    for (const analysis::Site* site : weight.sites) {
        edit.replaceInput(site->node, 0, codes);
        ir::Value* code = emitCast(edit, site->output, DType::int32);
        ir::Value* rows = emit(edit, "Mul", {emit(edit, "Gather", {numbers, code}),
                                             emit(edit, "Gather", {scales, site->node->input(1)})});
        edit.replaceAllUses(site->output, rows, {code->producer()});
    }
}

}  // namespace

void storeAsFloat8(ir::Edit& edit, const TargetWeight& weight, DType type, pipeline::PassReport& report) {
    if (const std::string reason = refusal(weight); !reason.empty()) return skip(report, weight, reason);
    // A row of a table is what its rows are looked up by: the axis that is not summed over.
    const auto stored = encoded(weight, type);
    if (!stored) return skip(report, weight, kNotFinite);
    if (weight.hasLinear()) {
        const std::string& name = weight.constant->name();
        ir::Value* scales = floats(edit, name + "_scale", {static_cast<std::int64_t>(stored->scales.size())},
                                   stored->scales);
        ir::Value* codes = edit.addInitializer(name + "_float8", stored->codes);
        edit.replaceAllUses(weight.constant,
                            emit(edit, "DequantizeLinear", {codes, scales},
                                 {{"axis", static_cast<std::int64_t>(weight.outAxis)}}));
    } else {
        storeTable(edit, weight, *stored, type);
    }
    for (const analysis::Site* site : weight.sites)
        report.changed.push_back({site->name,
                                  fmt::format("{} to {}, a scale per channel",
                                              describe(*weight.constant->constant()), name(type)),
                                  stored->relativeError});
}

}  // namespace tcompress::passes
