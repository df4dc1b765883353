#include "kernels/quantize.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/native/vector_math.h"
#include "kernels/quantize_runs.h"
#include "lib/support/check.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// Elements of a task; a multiple of 8, so that sub-byte tasks start on whole bytes.
constexpr std::int64_t kTask = 32768;
/// Values that are held unpacked at a time.
constexpr std::int64_t kPiece = 4096;

/// Largest float that rounds to nearest-even by adding and taking away 1.5·2^23.
constexpr float kRoundingShift = 12582912.0F;

/// roundHalfEven(x / scale) + zeroPoint within [low, high]; NaN gives the zero point. The clamp comes first:
/// its bounds are whole numbers, so the order does not matter, and rounding then never meets a large number.
TCOMPRESS_INLINE std::int32_t quantized(float x, float scale, float low, float high, std::int32_t zeroPoint) {
    float value = x / scale;
    value = value == value ? value : 0.0F;
    value = value < low ? low : value;
    value = value > high ? high : value;
    return std::bit_cast<std::int32_t>(value + kRoundingShift) - std::bit_cast<std::int32_t>(kRoundingShift) +
           zeroPoint;
}

template <class T>
TCOMPRESS_INLINE void quantizeSame(const float* x, std::int64_t count, float scale, std::int32_t zeroPoint,
                                   IntegerRange range, T* y) {
    const auto low = static_cast<float>(range.low - zeroPoint);
    const auto high = static_cast<float>(range.high - zeroPoint);
    for (std::int64_t i = 0; i < count; ++i)
        y[i] = static_cast<T>(quantized(x[i], scale, low, high, zeroPoint));
}

template <class T>
TCOMPRESS_INLINE void quantizeEach(const float* x, std::int64_t count, const float* scales,
                                   const std::int32_t* zeroPoints, IntegerRange range, T* y) {
    if (!zeroPoints) {
        const auto low = static_cast<float>(range.low);
        const auto high = static_cast<float>(range.high);
        for (std::int64_t i = 0; i < count; ++i)
            y[i] = static_cast<T>(quantized(x[i], scales[i], low, high, 0));
        return;
    }
    for (std::int64_t i = 0; i < count; ++i)
        y[i] = static_cast<T>(quantized(x[i], scales[i], static_cast<float>(range.low - zeroPoints[i]),
                                        static_cast<float>(range.high - zeroPoints[i]), zeroPoints[i]));
}

TCOMPRESS_MULTIVERSION void quantizeSame8(const float* x, std::int64_t count, float scale,
                                          std::int32_t zeroPoint, IntegerRange range, std::uint8_t* y) {
    quantizeSame(x, count, scale, zeroPoint, range, y);
}
TCOMPRESS_MULTIVERSION void quantizeEach8(const float* x, std::int64_t count, const float* scales,
                                          const std::int32_t* zeroPoints, IntegerRange range,
                                          std::uint8_t* y) {
    quantizeEach(x, count, scales, zeroPoints, range, y);
}
TCOMPRESS_MULTIVERSION void quantizeSame16(const float* x, std::int64_t count, float scale,
                                           std::int32_t zeroPoint, IntegerRange range, std::uint16_t* y) {
    quantizeSame(x, count, scale, zeroPoint, range, y);
}
TCOMPRESS_MULTIVERSION void quantizeEach16(const float* x, std::int64_t count, const float* scales,
                                           const std::int32_t* zeroPoints, IntegerRange range,
                                           std::uint16_t* y) {
    quantizeEach(x, count, scales, zeroPoints, range, y);
}

void quantizeRun(const float* x, std::int64_t count, const Run& run, const float* scales,
                 const std::int32_t* zeroPoints, IntegerRange range, std::uint8_t* y) {
    if (run.step == ScaleStep::same)
        quantizeSame8(x, count, scales[run.scale], zeroPoints ? zeroPoints[run.scale] : 0, range, y);
    else
        quantizeEach8(x, count, scales + run.scale, zeroPoints ? zeroPoints + run.scale : nullptr, range, y);
}
void quantizeRun(const float* x, std::int64_t count, const Run& run, const float* scales,
                 const std::int32_t* zeroPoints, IntegerRange range, std::uint16_t* y) {
    if (run.step == ScaleStep::same)
        quantizeSame16(x, count, scales[run.scale], zeroPoints ? zeroPoints[run.scale] : 0, range, y);
    else
        quantizeEach16(x, count, scales + run.scale, zeroPoints ? zeroPoints + run.scale : nullptr, range, y);
}

template <class T>
TCOMPRESS_INLINE void dequantizeValues(const T* x, std::int64_t count, const float* scales,
                                       const std::int32_t* zeroPoints, ScaleStep step, float* y) {
    if (step == ScaleStep::same) {
        const float scale = *scales;
        const std::int32_t zeroPoint = zeroPoints ? *zeroPoints : 0;
        for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(x[i] - zeroPoint) * scale;
    } else if (zeroPoints) {
        for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(x[i] - zeroPoints[i]) * scales[i];
    } else {
        for (std::int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(x[i]) * scales[i];
    }
}

/// x of one of the types that need no unpacking.
TCOMPRESS_MULTIVERSION void dequantizeTyped(const void* x, DType type, std::int64_t count,
                                            const float* scales, const std::int32_t* zeroPoints,
                                            ScaleStep step, float* y) {
    switch (type) {
        case DType::int8:
            return dequantizeValues(static_cast<const std::int8_t*>(x), count, scales, zeroPoints, step, y);
        case DType::uint8:
            return dequantizeValues(static_cast<const std::uint8_t*>(x), count, scales, zeroPoints, step, y);
        case DType::int16:
            return dequantizeValues(static_cast<const std::int16_t*>(x), count, scales, zeroPoints, step, y);
        case DType::uint16:
            return dequantizeValues(static_cast<const std::uint16_t*>(x), count, scales, zeroPoints, step, y);
        default:
            return dequantizeValues(static_cast<const std::int32_t*>(x), count, scales, zeroPoints, step, y);
    }
}

bool isSubByte(DType type) { return bitsPerElement(type) < 8; }

bool isSigned(DType type) {
    return type == DType::int8 || type == DType::int16 || type == DType::int32 || type == DType::int4 ||
           type == DType::int2;
}

/// Every zero point as int32; empty when there are none.
std::vector<std::int32_t> unpackedZeroPoints(const void* zeroPoints, DType type, std::int64_t count) {
    if (!zeroPoints) return {};
    std::vector<std::int32_t> values(static_cast<std::size_t>(count));
    const auto copy = [&](const auto* source) { std::copy_n(source, count, values.begin()); };
    if (isSubByte(type)) {
        std::vector<std::int8_t> bytes(values.size());
        unpackSubByte(type, {static_cast<const std::byte*>(zeroPoints), packedSizeBytes(type, count)}, bytes);
        copy(bytes.data());
        return values;
    }
    switch (type) {
        case DType::int8:
            copy(static_cast<const std::int8_t*>(zeroPoints));
            break;
        case DType::uint8:
            copy(static_cast<const std::uint8_t*>(zeroPoints));
            break;
        case DType::int16:
            copy(static_cast<const std::int16_t*>(zeroPoints));
            break;
        case DType::uint16:
            copy(static_cast<const std::uint16_t*>(zeroPoints));
            break;
        default:
            copy(static_cast<const std::int32_t*>(zeroPoints));
            break;
    }
    return values;
}

const std::byte* byteAt(const void* data, DType type, std::int64_t element) {
    return static_cast<const std::byte*>(data) + element * bitsPerElement(type) / 8;
}

}  // namespace

std::int64_t QuantizationLayout::scaleCount() const {
    switch (granularity) {
        case Granularity::tensor:
            return 1;
        case Granularity::axis:
            return axis;
        case Granularity::block:
            return outer * blocks() * inner;
    }
    return 0;
}

IntegerRange integerRange(DType type) {
    const int bits = bitsPerElement(type);
    if (!isInteger(type) || bits > 16)
        throw KernelError(fmt::format(
            "quantization to {} is not supported: use an integer type of 2 to 16 bits", name(type)));
    return isSigned(type) ? IntegerRange{-(1 << (bits - 1)), (1 << (bits - 1)) - 1}
                          : IntegerRange{0, (1 << bits) - 1};
}

void quantizeLinear(const QuantizeLinear& params) {
    const IntegerRange range = integerRange(params.type);
    const std::vector<std::int32_t> stored =
        unpackedZeroPoints(params.zeroPoints, params.type, params.layout.scaleCount());
    const std::int32_t* zeroPoints = stored.empty() ? nullptr : stored.data();
    auto* bytes = static_cast<std::uint8_t*>(params.y);
    const int bits = bitsPerElement(params.type);
    parallelRanges(params.layout.size(), kTask, [&](std::int64_t begin, std::int64_t end) {
        if (bits == 8) {
            forEachRun(params.layout, begin, end, [&](const Run& run) {
                quantizeRun(params.x + run.begin, run.count, run, params.scales, zeroPoints, range,
                            bytes + run.begin);
            });
        } else if (bits == 16) {
            forEachRun(params.layout, begin, end, [&](const Run& run) {
                quantizeRun(params.x + run.begin, run.count, run, params.scales, zeroPoints, range,
                            static_cast<std::uint16_t*>(params.y) + run.begin);
            });
        } else {
            std::array<std::uint8_t, kPiece> values;
            for (std::int64_t piece = begin; piece < end; piece += kPiece) {
                const std::int64_t pieceEnd = std::min(end, piece + kPiece);
                forEachRun(params.layout, piece, pieceEnd, [&](const Run& run) {
                    quantizeRun(params.x + run.begin, run.count, run, params.scales, zeroPoints, range,
                                values.data() + (run.begin - piece));
                });
                const auto count = static_cast<std::size_t>(pieceEnd - piece);
                packSubByte(params.type, {reinterpret_cast<const std::int8_t*>(values.data()), count},
                            {reinterpret_cast<std::byte*>(bytes) + piece * bits / 8,
                             packedSizeBytes(params.type, pieceEnd - piece)});
            }
        }
    });
}

void dequantizeLinear(const DequantizeLinear& params) {
    if (params.type != DType::int32) (void)integerRange(params.type);
    const std::vector<std::int32_t> stored =
        unpackedZeroPoints(params.zeroPoints, params.type, params.layout.scaleCount());
    const auto run = [&](const void* x, DType type, const Run& part) {
        dequantizeTyped(x, type, part.count, params.scales + part.scale,
                        stored.empty() ? nullptr : stored.data() + part.scale, part.step,
                        params.y + part.begin);
    };
    parallelRanges(params.layout.size(), kTask, [&](std::int64_t begin, std::int64_t end) {
        if (!isSubByte(params.type)) {
            forEachRun(params.layout, begin, end, [&](const Run& part) {
                run(byteAt(params.x, params.type, part.begin), params.type, part);
            });
            return;
        }
        std::array<std::int8_t, kPiece> values;
        for (std::int64_t piece = begin; piece < end; piece += kPiece) {
            const std::int64_t pieceEnd = std::min(end, piece + kPiece);
            unpackSubByte(
                params.type,
                {byteAt(params.x, params.type, piece), packedSizeBytes(params.type, pieceEnd - piece)},
                {values.data(), static_cast<std::size_t>(pieceEnd - piece)});
            forEachRun(params.layout, piece, pieceEnd, [&](const Run& part) {
                run(values.data() + (part.begin - piece), DType::int8, part);
            });
        }
    });
}

void dequantizeRun(const void* x, DType type, std::int64_t count, float scale, std::int32_t zeroPoint,
                   float* y) {
    if (!isSubByte(type)) {
        dequantizeTyped(x, type, count, &scale, &zeroPoint, ScaleStep::same, y);
        return;
    }
    std::array<std::int8_t, kPiece> values;
    for (std::int64_t piece = 0; piece < count; piece += kPiece) {
        const std::int64_t size = std::min(kPiece, count - piece);
        unpackSubByte(type, {byteAt(x, type, piece), packedSizeBytes(type, size)},
                      {values.data(), static_cast<std::size_t>(size)});
        dequantizeTyped(values.data(), DType::int8, size, &scale, &zeroPoint, ScaleStep::same, y + piece);
    }
}

void fakeQuantize(const QuantizationLayout& layout, std::span<const float> x, std::span<const float> scales,
                  std::span<const std::int32_t> zeroPoints, IntegerRange range, std::span<float> y) {
    TCOMPRESS_CHECK(x.size() == y.size() && static_cast<std::int64_t>(x.size()) == layout.size(),
                    "fakeQuantize: sizes differ");
    TCOMPRESS_CHECK(range.high - range.low <= 0xffff, "fakeQuantize: more than 16 bits");
    const std::int32_t* zeros = zeroPoints.empty() ? nullptr : zeroPoints.data();
    parallelRanges(layout.size(), kTask, [&](std::int64_t begin, std::int64_t end) {
        std::array<std::uint16_t, kPiece> values;
        for (std::int64_t piece = begin; piece < end; piece += kPiece) {
            forEachRun(layout, piece, std::min(end, piece + kPiece), [&](const Run& run) {
                quantizeRun(x.data() + run.begin, run.count, run, scales.data(), zeros, range, values.data());
                dequantizeTyped(values.data(), range.low < 0 ? DType::int16 : DType::uint16, run.count,
                                scales.data() + run.scale, zeros ? zeros + run.scale : nullptr, run.step,
                                y.data() + run.begin);
            });
        }
    });
}

UInt8Parameters dynamicUInt8Parameters(MinMax range) {
    const float low = std::min(range.min, 0.0F);
    const float high = std::max(range.max, 0.0F);
    UInt8Parameters result;
    if (low == high) return result;
    result.scale = (high - low) / 255.0F;
    const float zeroPoint = std::clamp(-low / result.scale, 0.0F, 255.0F);
    result.zeroPoint = static_cast<std::uint8_t>(std::nearbyint(zeroPoint));
    return result;
}

UInt8Parameters dynamicQuantizeLinear(std::span<const float> x, std::span<std::uint8_t> y) {
    TCOMPRESS_CHECK(x.size() == y.size(), "dynamicQuantizeLinear: sizes differ");
    const UInt8Parameters parameters = dynamicUInt8Parameters(minMax(x));
    parallelRanges(static_cast<std::int64_t>(x.size()), kTask, [&](std::int64_t begin, std::int64_t end) {
        quantizeSame8(x.data() + begin, end - begin, parameters.scale, parameters.zeroPoint, {0, 255},
                      y.data() + begin);
    });
    return parameters;
}

UInt8Parameters dynamicQuantizeLinear(const float* x, std::int64_t rows, std::int64_t columns,
                                      std::int64_t stride, std::uint8_t* y) {
    if (stride == columns || rows == 1) {
        const auto size = static_cast<std::size_t>(rows * columns);
        return dynamicQuantizeLinear({x, size}, {y, size});
    }
    MinMax range{INFINITY, -INFINITY};
    for (std::int64_t row = 0; row < rows; ++row) {
        const MinMax part = minMax({x + row * stride, static_cast<std::size_t>(columns)});
        range = {std::min(range.min, part.min), std::max(range.max, part.max)};
    }
    const UInt8Parameters parameters = dynamicUInt8Parameters(rows > 0 ? range : MinMax{});
    for (std::int64_t row = 0; row < rows; ++row)
        quantizeSame8(x + row * stride, columns, parameters.scale, parameters.zeroPoint, {0, 255},
                      y + row * columns);
    return parameters;
}

}  // namespace tcompress::kernels
