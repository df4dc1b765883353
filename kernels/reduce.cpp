#include "kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kTask = 16384;
constexpr int kSums = 16;

/// Integers are summed in an unsigned type (wraps around), floating point in its own.
template <class T>
using Sum =
    typename std::conditional_t<std::is_floating_point_v<T>, std::type_identity<T>,
                                std::make_unsigned<std::conditional_t<std::is_integral_v<T>, T, int>>>::type;

template <class T>
constexpr T lowest() {
    return std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity()
                                       : std::numeric_limits<T>::lowest();
}
template <class T>
constexpr T highest() {
    return std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
}

/// One step of a reduction: what it starts from, how an element joins, how two parts join.
template <ReduceOp kOp, class T>
struct Step {
    using Value = std::conditional_t<kOp == ReduceOp::max || kOp == ReduceOp::min, T, Sum<T>>;
    static constexpr Value start() {
        if constexpr (kOp == ReduceOp::max) return lowest<T>();
        if constexpr (kOp == ReduceOp::min) return highest<T>();
        if constexpr (kOp == ReduceOp::product) return Value{1};
        return Value{0};
    }
    TCOMPRESS_INLINE static Value join(Value a, Value b) {
        if constexpr (kOp == ReduceOp::max)
            return b > a || b != b ? b : a;
        else if constexpr (kOp == ReduceOp::min)
            return b < a || b != b ? b : a;
        else if constexpr (kOp == ReduceOp::product)
            return static_cast<Value>(a * b);
        else
            return static_cast<Value>(a + b);
    }
    TCOMPRESS_INLINE static Value value(T x) {
        if constexpr (kOp == ReduceOp::sumSquare || kOp == ReduceOp::l2) {
            return static_cast<Value>(static_cast<Value>(x) * static_cast<Value>(x));
        } else if constexpr (kOp == ReduceOp::l1) {
            if constexpr (std::is_floating_point_v<T>)
                return std::abs(x);
            else
                return x < T{0} ? static_cast<Value>(Value{0} - static_cast<Value>(x))
                                : static_cast<Value>(x);
        } else {
            return static_cast<Value>(x);
        }
    }
};

/// A contiguous stretch.
template <ReduceOp kOp, class T>
TCOMPRESS_INLINE typename Step<kOp, T>::Value reduceRun(const T* x, std::int64_t count) {
    using S = Step<kOp, T>;
    typename S::Value parts[kSums];
    for (int s = 0; s < kSums; ++s) parts[s] = S::start();
    std::int64_t i = 0;
    for (; i + kSums <= count; i += kSums)
        for (int s = 0; s < kSums; ++s) parts[s] = S::join(parts[s], S::value(x[i + s]));
    for (int s = 0; i < count; ++i, ++s) parts[s] = S::join(parts[s], S::value(x[i]));
    for (int width = kSums / 2; width > 0; width /= 2)
        for (int s = 0; s < width; ++s) parts[s] = S::join(parts[s], parts[s + width]);
    return parts[0];
}

template <class T>
T finished(ReduceOp op, Sum<T> value, std::int64_t count) {
    switch (op) {
        case ReduceOp::mean:
            if constexpr (std::is_floating_point_v<T>) return value / static_cast<T>(count);
            return count == 0 ? T{0} : static_cast<T>(static_cast<T>(value) / static_cast<T>(count));
        case ReduceOp::l2:
            return static_cast<T>(
                std::sqrt(static_cast<std::conditional_t<std::is_floating_point_v<T>, T, double>>(value)));
        case ReduceOp::logSum:
            return static_cast<T>(
                std::log(static_cast<std::conditional_t<std::is_floating_point_v<T>, T, double>>(value)));
        default:
            return static_cast<T>(value);
    }
}

/// The dimensions of x, merged, kept ones first in `kept`, the others in `gone`, each with its stride in x.
struct Axis {
    std::int64_t size = 1, stride = 1;
};
struct Split {
    std::vector<Axis> kept, gone;
    std::int64_t keptCount = 1, goneCount = 1;
};

Split split(std::span<const std::int64_t> shape, std::span<const std::uint8_t> reduced) {
    Split result;
    std::int64_t stride = 1;
    bool lastReduced = false;
    bool first = true;
    for (std::size_t d = shape.size(); d-- > 0; stride *= shape[d]) {
        const bool goes = reduced[d] != 0;
        (goes ? result.goneCount : result.keptCount) *= shape[d];
        if (shape[d] == 1) continue;
        std::vector<Axis>& target = goes ? result.gone : result.kept;
        if (!first && goes == lastReduced)
            target.back().size *= shape[d];
        else
            target.push_back({shape[d], stride});
        first = false;
        lastReduced = goes;
    }
    return result;  // innermost first
}

std::int64_t offsetOf(std::int64_t index, const std::vector<Axis>& axes) {
    std::int64_t offset = 0;
    for (const Axis& axis : axes) {
        offset += index % axis.size * axis.stride;
        index /= axis.size;
    }
    return offset;
}

template <ReduceOp kOp, class T>
TCOMPRESS_INLINE void reduceOutputs(const T* x, const Split& split, ReduceOp op, std::int64_t begin,
                                    std::int64_t end, T* y) {
    using S = Step<kOp, T>;
    const bool contiguous = !split.gone.empty() && split.gone.front().stride == 1;
    const std::int64_t run = contiguous ? split.gone.front().size : 1;
    const std::int64_t runs = split.goneCount / std::max<std::int64_t>(1, run);
    const std::vector<Axis> outerGone(split.gone.begin() + (contiguous ? 1 : 0), split.gone.end());
    for (std::int64_t i = begin; i < end; ++i) {
        const T* source = x + offsetOf(i, split.kept);
        typename S::Value value = S::start();
        for (std::int64_t r = 0; r < runs; ++r) {
            const T* from = source + offsetOf(r, outerGone);
            value = S::join(value, contiguous ? reduceRun<kOp>(from, run) : S::value(*from));
        }
        y[i] = finished<T>(op, static_cast<Sum<T>>(value), split.goneCount);
    }
}

/// Kept elements are contiguous, so that rows of x are added to a row of y.
template <ReduceOp kOp, class T>
TCOMPRESS_INLINE void reduceColumns(const T* x, const Split& split, ReduceOp op, std::int64_t begin,
                                    std::int64_t end, T* y) {
    using S = Step<kOp, T>;
    constexpr std::int64_t kColumns = 128;
    const std::int64_t inner = split.kept.front().size;
    for (std::int64_t i = begin; i < end;) {
        const std::int64_t count = std::min({kColumns, end - i, inner - i % inner});
        typename S::Value values[kColumns];
        std::fill_n(values, count, S::start());
        const T* source = x + offsetOf(i, split.kept);
        for (std::int64_t r = 0; r < split.goneCount; ++r) {
            const T* row = source + offsetOf(r, split.gone);
            for (std::int64_t c = 0; c < count; ++c) values[c] = S::join(values[c], S::value(row[c]));
        }
        for (std::int64_t c = 0; c < count; ++c)
            y[i + c] = finished<T>(op, static_cast<Sum<T>>(values[c]), split.goneCount);
        i += count;
    }
}

template <class T>
TCOMPRESS_INLINE void dispatchOutputs(ReduceOp op, const T* x, const Split& split, std::int64_t begin,
                                      std::int64_t end, T* y) {
    const bool columns =
        !split.kept.empty() && split.kept.front().stride == 1 && split.kept.front().size >= 8;
    switch (op) {
#define TCOMPRESS_OP(name, step)                                                    \
    case ReduceOp::name:                                                            \
        return columns ? reduceColumns<ReduceOp::step>(x, split, op, begin, end, y) \
                       : reduceOutputs<ReduceOp::step>(x, split, op, begin, end, y)
        TCOMPRESS_OP(sum, sum);
        TCOMPRESS_OP(mean, sum);
        TCOMPRESS_OP(logSum, sum);
        TCOMPRESS_OP(max, max);
        TCOMPRESS_OP(min, min);
        TCOMPRESS_OP(product, product);
        TCOMPRESS_OP(sumSquare, sumSquare);
        TCOMPRESS_OP(l1, l1);
        TCOMPRESS_OP(l2, l2);
        TCOMPRESS_OP(logSumExp, sum);
#undef TCOMPRESS_OP
    }
}

// As with the element-wise operators, float32 alone is compiled for each instruction set, and the others for
// size.
TCOMPRESS_MULTIVERSION void outputsOf(ReduceOp op, const float* x, const Split& split, std::int64_t begin,
                                      std::int64_t end, float* y) {
    dispatchOutputs(op, x, split, begin, end, y);
}
template <class T>
[[gnu::cold]] void outputsOf(ReduceOp op, const T* x, const Split& split, std::int64_t begin,
                             std::int64_t end, T* y) {
    dispatchOutputs(op, x, split, begin, end, y);
}

/// max + ln Σ e^(x − max), in float64.
template <class T>
void logSumExp(const T* x, const Split& split, std::int64_t begin, std::int64_t end, T* y) {
    for (std::int64_t i = begin; i < end; ++i) {
        const T* source = x + offsetOf(i, split.kept);
        double largest = -std::numeric_limits<double>::infinity();
        for (std::int64_t r = 0; r < split.goneCount; ++r)
            largest = std::max(largest, static_cast<double>(source[offsetOf(r, split.gone)]));
        const double shift = std::isfinite(largest) ? largest : 0.0;
        double sum = 0;
        for (std::int64_t r = 0; r < split.goneCount; ++r)
            sum += std::exp(static_cast<double>(source[offsetOf(r, split.gone)]) - shift);
        y[i] = static_cast<T>(shift + std::log(sum));
    }
}

}  // namespace

template <class T>
void reduce(ReduceOp op, const T* x, std::span<const std::int64_t> shape,
            std::span<const std::uint8_t> reduced, T* y) {
    TCOMPRESS_CHECK(shape.size() == reduced.size(), "reduce: one flag a dimension");
    const Split parts = split(shape, reduced);
    const std::int64_t grain = std::max<std::int64_t>(1, kTask / std::max<std::int64_t>(1, parts.goneCount));
    parallelRanges(parts.keptCount, grain, [&](std::int64_t begin, std::int64_t end) {
        if (op == ReduceOp::logSumExp)
            logSumExp(x, parts, begin, end, y);
        else
            outputsOf(op, x, parts, begin, end, y);
    });
}

template <class T>
void argReduce(ArgOp op, Tie tie, const T* x, std::int64_t outer, std::int64_t axis, std::int64_t inner,
               std::int64_t* y) {
    TCOMPRESS_CHECK(axis > 0, "argReduce: the axis is empty");
    parallelRanges(outer * inner, std::max<std::int64_t>(1, kTask / axis),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i) {
                           const T* source = x + i / inner * axis * inner + i % inner;
                           std::int64_t best = 0;
                           for (std::int64_t a = 1; a < axis; ++a) {
                               const T value = source[a * inner];
                               const T current = source[best * inner];
                               const bool beats = op == ArgOp::max ? value > current : value < current;
                               if (beats || (tie == Tie::last && value == current)) best = a;
                           }
                           y[i] = best;
                       }
                   });
}

#define TCOMPRESS_INSTANTIATE(T)                                                                           \
    template void reduce(ReduceOp, const T*, std::span<const std::int64_t>, std::span<const std::uint8_t>, \
                         T*);                                                                              \
    template void argReduce(ArgOp, Tie, const T*, std::int64_t, std::int64_t, std::int64_t, std::int64_t*);
TCOMPRESS_INSTANTIATE(float)
TCOMPRESS_INSTANTIATE(double)
TCOMPRESS_INSTANTIATE(std::int8_t)
TCOMPRESS_INSTANTIATE(std::uint8_t)
TCOMPRESS_INSTANTIATE(std::int32_t)
TCOMPRESS_INSTANTIATE(std::uint32_t)
TCOMPRESS_INSTANTIATE(std::int64_t)
TCOMPRESS_INSTANTIATE(std::uint64_t)
#undef TCOMPRESS_INSTANTIATE

}  // namespace tcompress::kernels
