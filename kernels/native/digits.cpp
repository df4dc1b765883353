#include "kernels/native/digits.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "kernels/native/vector_math.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// A little less than three digits hold, so that rounding does not carry out of the highest.
constexpr float kLargestNumber = 127.0F * 65536;
/// The smallest numbers lose no digit that matters: below it everything is 0.
constexpr float kNothing = 1e-30F;

using UnsignedVector = std::uint32_t __attribute__((vector_size(sizeof(IntVector))));
using Bytes = std::int8_t __attribute__((vector_size(kLanes)));
using Words = std::int16_t __attribute__((vector_size(2 * kLanes)));

TCOMPRESS_INLINE FloatVector loadAtMost(const float* x, std::int64_t count) {
    return count >= kLanes ? loadVector(x) : loadPart(x, count);
}

/// part(first k, count) for each segment of a stretch or part in order.
template <class Part>
TCOMPRESS_INLINE void forEachSegment(const DigitRows& rows, std::int64_t begin, std::int64_t end, Part part) {
    for (std::int64_t block = begin; block < end; block += rows.block) {
        const std::int64_t blockEnd = std::min(end, block + rows.block);
        for (std::int64_t first = block; first < blockEnd; first += rows.segment)
            part(first, std::min(rows.segment, blockEnd - first));
    }
}

struct Measured {
    float largest = 0, largestSum = 0;  // of |x|, of Σ |x| over a segment
    bool finite = true;
};
TCOMPRESS_MULTIVERSION void measure(const DigitRows& rows, std::int64_t row, std::int64_t begin,
                                    Measured* result) {
    const float* x = rows.a + row * rows.aStride;
    FloatVector largest{};
    float largestSum = 0;
    bool finite = true;
    constexpr std::int64_t kAhead = 512;  // the hardware's own prefetching stops at the end of each page
    forEachSegment(
        rows, begin, rows.stretchEnd(begin),
        [&](std::int64_t first, std::int64_t count) __attribute__((always_inline)) {
            FloatVector sum{};
            for (std::int64_t i = 0; i < count; i += kLanes) {
                const FloatVector magnitude = absVector(loadAtMost(x + first + i, count - i));
                __builtin_prefetch(x + first + i + kAhead);
                largest = magnitude > largest ? magnitude : largest;
                sum += magnitude;
            }
            const float total = sumLanes(sum);
            finite = finite && total < __builtin_inff();  // NaN is not
            largestSum = total > largestSum ? total : largestSum;
        });
    *result = {maxLanes(largest), largestSum, finite};
}

/// Sixteen numbers; what is beyond `count` is 0.
TCOMPRESS_INLINE IntVector numbersOf(const float* x, std::int64_t count, float inverse) {
    const FloatVector scaled = loadAtMost(x, count) * inverse;
    const FloatVector half = broadcastVector(0.5F);
    return __builtin_convertvector(scaled + (scaled < 0.0F ? -half : half), IntVector);
}
/// Modulo 2^32.
TCOMPRESS_INLINE std::int32_t sumLanes(UnsignedVector x) {
    using Half = std::uint32_t __attribute__((vector_size(32)));
    using Quarter = std::uint32_t __attribute__((vector_size(16)));
    struct Halves {
        Half low, high;
    };
    struct Quarters {
        Quarter low, high;
    };
    const auto halves = std::bit_cast<Halves>(x);
    const auto quarters = std::bit_cast<Quarters>(halves.low + halves.high);
    const Quarter last = quarters.low + quarters.high;
    return static_cast<std::int32_t>(last[0] + last[1] + last[2] + last[3]);
}
template <std::size_t kBytes>
TCOMPRESS_INLINE void put(std::int8_t* target, const void* digits, std::int64_t group) {
    std::memcpy(target, static_cast<const char*>(digits) + group * static_cast<std::int64_t>(kBytes), kBytes);
}

/// Groups of four numbers each.
TCOMPRESS_INLINE void storeThree(IntVector number, std::int64_t groups, std::int8_t* target,
                                 std::int64_t step) {
    const IntVector low = (number << 24) >> 24;
    const IntVector rest = (number - low) >> 8;
    const IntVector middle = (rest << 24) >> 24;
    const Bytes d0 = __builtin_convertvector(low, Bytes);
    const Bytes d1 = __builtin_convertvector(middle, Bytes);
    const Bytes d2 = __builtin_convertvector((rest - middle) >> 8, Bytes);
    for (std::int64_t group = 0; group < groups; ++group, target += step) {
        put<4>(target, &d0, group);
        put<4>(target + 4, &d1, group);
        put<4>(target + 8, &d2, group);
    }
}
TCOMPRESS_INLINE void storeTwo(IntVector number, std::int64_t groups, std::int8_t* target,
                               std::int64_t step) {
    const Bytes d0 = __builtin_convertvector(number, Bytes);  // the low bits, whatever the sign
    const Words inOrder = __builtin_convertvector(number >> 8, Words);
    const Words d1 = __builtin_shuffle(inOrder, Words{0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15});
    for (std::int64_t group = 0; group < groups; ++group, target += step) {
        put<8>(target, &d1, group);
        put<4>(target + 8, &d0, group);
    }
}

/// Of neighbouring numbers' d₁, the 1st and 2nd, the 3rd and 4th, …; each is there twice.
TCOMPRESS_INLINE UnsignedVector pairProducts(IntVector number) {
    const IntVector high = number >> 8;
    const IntVector other =
        __builtin_shuffle(high, IntVector{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
    return (UnsignedVector)high * (UnsignedVector)other;
}

/// A segment of a strip's rows.
struct StripSegment {
    const float* x = nullptr;
    std::int64_t stride = 0, rows = 0, count = 0;
    const float* units = nullptr;
    std::int64_t unitStride = 0;
    std::int8_t* digits = nullptr;
    std::int64_t step = 0;  // bytes from one group to the next
    std::int32_t* sums = nullptr;
    std::int64_t sumStride = 0;
    std::int32_t* products = nullptr;  // or null
};
enum class Products { none, ofPairs };
template <DigitForm kForm, Products kProducts>
TCOMPRESS_INLINE void splitSegment(const StripSegment& part) {
    for (std::int64_t row = 0; row < part.rows; ++row) {
        const float* x = part.x + row * part.stride;
        const float unit = part.units[row * part.unitStride];
        const float inverse = unit > 0 ? 1.0F / unit : 0.0F;
        std::int8_t* digits = part.digits + row * kDigitGroupBytes;
        UnsignedVector sum{}, products{};
        // Rows may lie a power of two apart, where the hardware does not prefetch them.
        const float* next = x + part.rows * part.stride;
        for (std::int64_t i = 0; i < part.count; i += kLanes) {
            const std::int64_t left = part.count - i;
            __builtin_prefetch(next + i);
            const IntVector number = numbersOf(x + i, left, inverse);
            sum += (UnsignedVector)number;
            if constexpr (kProducts == Products::ofPairs) products += pairProducts(number);
            const std::int64_t groups =
                left >= kLanes ? kLanes / kDigitGroup : (left + kDigitGroup - 1) / kDigitGroup;
            if constexpr (kForm == DigitForm::three)
                storeThree(number, groups, digits, part.step);
            else
                storeTwo(number, groups, digits, part.step);
            digits += groups * part.step;
        }
        part.sums[row * part.sumStride] = sumLanes(sum);
        if constexpr (kProducts == Products::ofPairs)
            part.products[row] = sumLanes(products * -128U);  // of twice the sum
    }
}
TCOMPRESS_MULTIVERSION void splitThree(const StripSegment& part) {
    splitSegment<DigitForm::three, Products::none>(part);
}
TCOMPRESS_MULTIVERSION void splitTwo(const StripSegment& part) {
    splitSegment<DigitForm::two, Products::none>(part);
}
TCOMPRESS_MULTIVERSION void splitTwoForPairs(const StripSegment& part) {
    splitSegment<DigitForm::two, Products::ofPairs>(part);
}

/// One stretch of one row. Nothing when it is not finite.
std::optional<float> unitOf(const DigitRows& rows, std::int64_t row, std::int64_t begin) {
    Measured measured;
    measure(rows, row, begin, &measured);
    if (!measured.finite) return std::nullopt;
    if (measured.largest < kNothing) return 0.0F;
    return std::max(measured.largest / kLargestNumber, measured.largestSum / mostOfSegment(rows.bits));
}

/// Segment by segment, whose lines the strip's rows fill while they are in the first-level cache.
void splitStrip(const DigitRows& rows, std::int64_t strip) {
    StripSegment segment;
    const std::int64_t firstRow = strip * rows.stripRows;
    segment.stride = rows.aStride;
    segment.rows = std::min(rows.rows - firstRow, rows.stripRows);
    segment.unitStride = rows.unitStride;
    segment.sumStride = rows.segments();
    segment.step = rows.groupBytes();
    segment.sums = rows.sums + firstRow * segment.sumStride;
    if (rows.products) segment.products = rows.products + strip * rows.segments() * rows.stripRows;
    const auto split = rows.form == DigitForm::three ? splitThree
                       : rows.products               ? splitTwoForPairs
                                                     : splitTwo;
    for (std::int64_t begin = 0; begin < rows.k; begin = rows.partEnd(begin)) {
        segment.units = rows.units + firstRow * rows.unitStride + begin / rows.stretch;
        const std::int64_t end = rows.partEnd(begin);
        segment.digits = rows.digitsOf(begin, strip);
        forEachSegment(rows, begin, end, [&](std::int64_t first, std::int64_t count) {
            segment.x = rows.a + firstRow * rows.aStride + first;
            segment.count = count;
            split(segment);
            segment.digits += (count + kDigitGroup - 1) / kDigitGroup * segment.step;
            ++segment.sums;
            if (segment.products) segment.products += rows.stripRows;
        });
        const std::int8_t* last = rows.digitsOf(begin, strip) + rows.partGroups(begin) * segment.step;
        std::memset(segment.digits, 0, static_cast<std::size_t>(last - segment.digits));
    }
}

/// body(first, end) for ranges of `count` rows or strips of `elements` each.
template <class Body>
void forRanges(std::int64_t count, std::int64_t elements, Body body) {
    constexpr std::int64_t kElementsWorthATask = 32768;
    parallelRanges(count,
                   std::max<std::int64_t>(1, kElementsWorthATask / std::max<std::int64_t>(1, elements)), body);
}

}  // namespace

Units findUnits(const DigitRows& rows) {
    std::atomic<bool> finite{true};
    forRanges(rows.rows, rows.k, [&](std::int64_t first, std::int64_t end) {
        for (std::int64_t row = first; row < end; ++row)
            for (std::int64_t stretch = 0; stretch < rows.stretches(); ++stretch) {
                const std::optional<float> unit = unitOf(rows, row, stretch * rows.stretch);
                if (!unit) finite = false;
                rows.units[row * rows.unitStride + stretch] = unit.value_or(0.0F);
            }
    });
    return finite ? Units::found : Units::notFinite;
}

void splitIntoDigits(const DigitRows& rows) {
    forRanges(rows.strips(), rows.k * rows.stripRows, [&](std::int64_t first, std::int64_t end) {
        for (std::int64_t strip = first; strip < end; ++strip) splitStrip(rows, strip);
    });
}

}  // namespace tcompress::kernels
