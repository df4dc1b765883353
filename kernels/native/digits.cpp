#include "kernels/native/digits.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/native/vector_math.h"

namespace tcompress::kernels {

namespace {

/// A little less than three digits hold, so that rounding does not carry out of the highest.
constexpr float kLargestNumber = 127.0F * 65536;

struct Measured {
    float largest = 0, sum = 0;
};
TCOMPRESS_MULTIVERSION void measure(const float* x, std::int64_t count, Measured* result) {
    FloatVector largest{}, sum{};
    std::int64_t i = 0;
    for (; i < count; i += kLanes) {
        const FloatVector value = count - i >= kLanes ? loadVector(x + i) : loadPart(x + i, count - i);
        const FloatVector magnitude = absVector(value);
        largest = magnitude > largest ? magnitude : largest;
        sum += value;
    }
    result->largest = maxLanes(largest);
    result->sum = sumLanes(sum);
}

TCOMPRESS_MULTIVERSION void split(const float* x, std::int64_t count, float inverse, std::int8_t* d0,
                                  std::int8_t* d1, std::int8_t* d2) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float scaled = x[i] * inverse;
        const auto number = static_cast<std::int32_t>(scaled + (scaled < 0 ? -0.5F : 0.5F));
        const std::int32_t low = static_cast<std::int32_t>(static_cast<std::uint32_t>(number) << 24) >> 24;
        const std::int32_t rest = (number - low) >> 8;
        const std::int32_t middle = static_cast<std::int32_t>(static_cast<std::uint32_t>(rest) << 24) >> 24;
        d0[i] = static_cast<std::int8_t>(low);
        d1[i] = static_cast<std::int8_t>(middle);
        d2[i] = static_cast<std::int8_t>((rest - middle) >> 8);
    }
}

}  // namespace

Split splitIntoDigits(const DigitRows& rows) {
    for (std::int64_t row = 0; row < rows.rows; ++row) {
        const float* x = rows.a + row * rows.aStride;
        std::int64_t number = 0;
        const std::int64_t blocks = (rows.k + rows.block - 1) / rows.block;
        const std::int64_t perBlock = (rows.block + rows.segment - 1) / rows.segment;
        float* units = rows.units + row * blocks * perBlock;
        float* sums = rows.sums + row * blocks * perBlock;
        std::int8_t* digits[3];
        for (int d = 0; d < 3; ++d) {
            digits[d] = rows.digits[d] + row * rows.stride;
            std::memset(digits[d] + rows.k, 0, static_cast<std::size_t>(rows.stride - rows.k));
        }
        for (std::int64_t block = 0; block < rows.k; block += rows.block)
            for (std::int64_t i = 0; i < perBlock; ++i, ++number) {
                const std::int64_t begin = block + i * rows.segment;
                const std::int64_t count =
                    std::min({rows.segment, block + rows.block - begin, rows.k - begin});
                Measured measured;
                if (count > 0) measure(x + begin, count, &measured);
                if (!std::isfinite(measured.sum) || !std::isfinite(measured.largest)) return Split::notFinite;
                // The smallest numbers lose no digit that matters: below it everything is 0.
                const bool nothing = measured.largest < 1e-30F;
                units[number] = nothing ? 0.0F : measured.largest / kLargestNumber;
                sums[number] = measured.sum;
                if (count > 0)
                    split(x + begin, count, nothing ? 0.0F : kLargestNumber / measured.largest,
                          digits[0] + begin, digits[1] + begin, digits[2] + begin);
            }
    }
    return Split::done;
}

}  // namespace tcompress::kernels
