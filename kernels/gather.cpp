#include "kernels/gather.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "lib/support/check.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kTaskBytes = 128 * 1024;

void checkIndices(std::span<const std::int64_t> indices, std::int64_t axis) {
    for (const std::int64_t index : indices)
        if (index < -axis || index >= axis)
            throw KernelError(fmt::format("gather: index {} is outside an axis of size {}", index, axis));
}

}  // namespace

void gather(const Gather& params) {
    checkIndices(params.indices, params.axis);
    const auto count = static_cast<std::int64_t>(params.indices.size());
    const auto* x = static_cast<const std::byte*>(params.x);
    auto* y = static_cast<std::byte*>(params.y);
    const std::int64_t bytes = params.innerBytes;
    if (bytes == 0) return;
    parallelRanges(params.outer * count, std::max<std::int64_t>(1, kTaskBytes / bytes),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i) {
                           const std::int64_t index = params.indices[static_cast<std::size_t>(i % count)];
                           const std::int64_t row =
                               i / count * params.axis + (index < 0 ? index + params.axis : index);
                           std::memcpy(y + i * bytes, x + row * bytes, static_cast<std::size_t>(bytes));
                       }
                   });
}

void gather(const GatherDequantize& params) {
    checkIndices(params.indices, params.axis);
    const int bits = bitsPerElement(params.type);
    TCOMPRESS_CHECK(params.inner * bits % 8 == 0, "gather: rows must be whole bytes");
    const std::int64_t rowBytes = params.inner * bits / 8;
    const bool perRow = params.scales.size() > 1;
    const auto* x = static_cast<const std::byte*>(params.x);
    const IntegerRange range = integerRange(params.type);
    const auto zeroPointOf = [&](std::int64_t row) -> std::int32_t {
        if (!params.zeroPoints) return 0;
        std::int32_t value = 0;
        if (bits < 8) {
            const auto* packed = static_cast<const std::uint8_t*>(params.zeroPoints);
            value = packed[row * bits / 8] >> (row * bits % 8) & ((1 << bits) - 1);
        } else if (bits == 8) {
            value = static_cast<const std::uint8_t*>(params.zeroPoints)[row];
        } else {
            value = static_cast<const std::uint16_t*>(params.zeroPoints)[row];
        }
        return value > range.high ? value - (1 << bits) : value;
    };
    const auto count = static_cast<std::int64_t>(params.indices.size());
    parallelRanges(count,
                   std::max<std::int64_t>(1, kTaskBytes / (4 * std::max<std::int64_t>(1, params.inner))),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i) {
                           const std::int64_t index = params.indices[static_cast<std::size_t>(i)];
                           const std::int64_t row = index < 0 ? index + params.axis : index;
                           dequantizeRun(x + row * rowBytes, params.type, params.inner,
                                         params.scales[perRow ? static_cast<std::size_t>(row) : 0],
                                         zeroPointOf(perRow ? row : 0), params.y + i * params.inner);
                       }
                   });
}

}  // namespace tcompress::kernels
