#include "kernels/native/digits.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/native/vector_math.h"
#include "lib/support/parallel.h"

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

using Bytes = std::int8_t __attribute__((vector_size(kLanes)));
using Words = std::int16_t __attribute__((vector_size(2 * kLanes)));

/// Sixteen numbers; what is beyond `count` is 0.
TCOMPRESS_INLINE IntVector numbersOf(const float* x, std::int64_t count, float inverse) {
    const FloatVector scaled = (count >= kLanes ? loadVector(x) : loadPart(x, count)) * inverse;
    const FloatVector half = broadcastVector(0.5F);
    return __builtin_convertvector(scaled + (scaled < 0.0F ? -half : half), IntVector);
}
/// Of the next numbers, at most kLanes.
TCOMPRESS_INLINE std::int64_t groupsOf(std::int64_t count) {
    return ((count < kLanes ? count : kLanes) + kDigitGroup - 1) / kDigitGroup;
}
TCOMPRESS_INLINE std::int8_t* put(std::int8_t* target, const void* digits, std::int64_t group,
                                  std::size_t bytes) {
    std::memcpy(target, static_cast<const char*>(digits) + group * static_cast<std::int64_t>(bytes), bytes);
    return target + bytes;
}

// Whole groups of digits are written.
TCOMPRESS_MULTIVERSION void splitThree(const float* x, std::int64_t count, float inverse,
                                       std::int8_t* digits) {
    for (std::int64_t i = 0; i < count; i += kLanes) {
        const IntVector number = numbersOf(x + i, count - i, inverse);
        const IntVector low = (number << 24) >> 24;
        const IntVector rest = (number - low) >> 8;
        const IntVector middle = (rest << 24) >> 24;
        const Bytes d0 = __builtin_convertvector(low, Bytes);
        const Bytes d1 = __builtin_convertvector(middle, Bytes);
        const Bytes d2 = __builtin_convertvector((rest - middle) >> 8, Bytes);
        for (std::int64_t group = 0; group < groupsOf(count - i); ++group)
            digits = put(put(put(digits, &d0, group, 4), &d1, group, 4), &d2, group, 4);
    }
}
TCOMPRESS_MULTIVERSION void splitTwo(const float* x, std::int64_t count, float inverse, std::int8_t* digits) {
    for (std::int64_t i = 0; i < count; i += kLanes) {
        const IntVector number = numbersOf(x + i, count - i, inverse);
        const Bytes d0 = __builtin_convertvector(number, Bytes);  // the low bits, whatever the sign
        const Words inOrder = __builtin_convertvector(number >> 8, Words);
        const Words d1 =
            __builtin_shuffle(inOrder, Words{0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15});
        for (std::int64_t group = 0; group < groupsOf(count - i); ++group)
            digits = put(put(digits, &d1, group, 8), &d0, group, 4);
    }
}

/// One row. False when it is not finite.
bool splitRow(const DigitRows& rows, std::int64_t row) {
    const float* x = rows.a + row * rows.aStride;
    const std::int64_t blocks = (rows.k + rows.block - 1) / rows.block;
    const std::int64_t perBlock = (rows.block + rows.segment - 1) / rows.segment;
    float* units = rows.units + row * blocks * perBlock;
    float* sums = rows.sums + row * blocks * perBlock;
    std::int8_t* digits = rows.digits + row * rows.groups * kDigitGroupBytes;
    const std::int64_t used = (rows.k + kDigitGroup - 1) / kDigitGroup;
    std::memset(digits + used * kDigitGroupBytes, 0,
                static_cast<std::size_t>((rows.groups - used) * kDigitGroupBytes));
    for (std::int64_t block = 0; block < rows.k; block += rows.block)
        for (std::int64_t i = 0; i < perBlock; ++i, ++units, ++sums) {
            const std::int64_t begin = block + i * rows.segment;
            const std::int64_t count = std::min({rows.segment, block + rows.block - begin, rows.k - begin});
            Measured measured;
            if (count > 0) measure(x + begin, count, &measured);
            if (!std::isfinite(measured.sum) || !std::isfinite(measured.largest)) return false;
            // The smallest numbers lose no digit that matters: below it everything is 0.
            const bool nothing = measured.largest < 1e-30F;
            *units = nothing ? 0.0F : measured.largest / kLargestNumber;
            *sums = measured.sum;
            if (count <= 0) continue;
            const auto split = rows.form == DigitForm::three ? splitThree : splitTwo;
            split(x + begin, count, nothing ? 0.0F : kLargestNumber / measured.largest,
                  digits + begin / kDigitGroup * kDigitGroupBytes);
        }
    return true;
}

}  // namespace

Split splitIntoDigits(const DigitRows& rows) {
    constexpr std::int64_t kElementsWorthATask = 32768;
    std::atomic<bool> finite{true};
    parallelRanges(rows.rows,
                   std::max<std::int64_t>(1, kElementsWorthATask / std::max<std::int64_t>(1, rows.k)),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t row = begin; row < end; ++row)
                           if (!splitRow(rows, row)) finite = false;
                   });
    return finite ? Split::done : Split::notFinite;
}

}  // namespace tcompress::kernels
