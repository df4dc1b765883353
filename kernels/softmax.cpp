#include "kernels/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/native/vector_math.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kTaskElements = 16384;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// NaN-keeping maximum of a row.
TCOMPRESS_INLINE float rowMax(const float* x, std::int64_t count) {
    FloatVector best = broadcastVector(-kInfinity);
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const FloatVector value = loadVector(x + i);
        best = value > best ? value : best;
    }
    if (i < count) {
        const FloatVector value = loadPart(x + i, count - i, -kInfinity);
        best = value > best ? value : best;
    }
    return maxLanes(best);
}

/// y = e^(x − shift); the sum of y.
TCOMPRESS_INLINE float exponentials(const float* x, float* y, std::int64_t count, float shift) {
    FloatVector sum{};
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        const FloatVector value = expNonPositive(loadVector(x + i) - shift);
        storeVector(y + i, value);
        sum += value;
    }
    if (i < count) {
        const FloatVector value = expNonPositive(loadPart(x + i, count - i, -kInfinity) - shift);
        storePart(y + i, value, count - i);
        sum += value;
    }
    return sumLanes(sum);
}

TCOMPRESS_INLINE void softmaxRow(const float* x, float* y, std::int64_t count) {
    const float sum = exponentials(x, y, count, rowMax(x, count));
    const float inverse = 1.0F / sum;
    mapVectors(
        y, y, count, [=](FloatVector v) __attribute__((always_inline)) { return v * inverse; });
}

TCOMPRESS_INLINE float exponentialSum(const float* x, std::int64_t count, float shift) {
    FloatVector sum{};
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) sum += expNonPositive(loadVector(x + i) - shift);
    if (i < count) sum += expNonPositive(loadPart(x + i, count - i, -kInfinity) - shift);
    return sumLanes(sum);
}

TCOMPRESS_MULTIVERSION void softmaxRows(SoftmaxKind kind, const float* x, float* y, std::int64_t rows,
                                        std::int64_t count) {
    for (std::int64_t row = 0; row < rows; ++row, x += count, y += count) {
        if (kind == SoftmaxKind::softmax) {
            softmaxRow(x, y, count);
            continue;
        }
        const float shift = rowMax(x, count);
        const float logSum = std::log(exponentialSum(x, count, shift));
        mapVectors(
            x, y, count, [=](FloatVector v) __attribute__((always_inline)) { return v - shift - logSum; });
    }
}

/// y = scale · x + mask, then softmax; a row without any key becomes zeros.
TCOMPRESS_MULTIVERSION void maskedRow(const float* x, float* y, std::int64_t count, float scale,
                                      const float* mask, std::int64_t maskStride) {
    if (!mask) {
        mapVectors(
            x, y, count, [=](FloatVector v) __attribute__((always_inline)) { return v * scale; });
    } else if (maskStride == 1) {
        for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] * scale + mask[i];
    } else {
        for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] * scale + mask[i * maskStride];
    }
    if (rowMax(y, count) == -kInfinity) {
        std::fill_n(y, count, 0.0F);
        return;
    }
    softmaxRow(y, y, count);
}

/// The axis is not the last: each of `inner` columns is a row of its own.
void softmaxColumns(const Softmax& params, std::int64_t outer) {
    const float* x = params.x + outer * params.axis * params.inner;
    float* y = params.y + outer * params.axis * params.inner;
    for (std::int64_t i = 0; i < params.inner; ++i) {
        float shift = -kInfinity;
        for (std::int64_t a = 0; a < params.axis; ++a) shift = std::max(shift, x[a * params.inner + i]);
        float sum = 0;
        for (std::int64_t a = 0; a < params.axis; ++a) sum += std::exp(x[a * params.inner + i] - shift);
        const float logSum = std::log(sum);
        for (std::int64_t a = 0; a < params.axis; ++a) {
            const float value = x[a * params.inner + i] - shift;
            y[a * params.inner + i] =
                params.kind == SoftmaxKind::softmax ? std::exp(value) / sum : value - logSum;
        }
    }
}

}  // namespace

void softmax(const Softmax& params) {
    const std::int64_t rowSize = params.axis * params.inner;
    if (params.outer * rowSize == 0) return;
    const std::int64_t grain = std::max<std::int64_t>(1, kTaskElements / rowSize);
    parallelRanges(params.outer, grain, [&](std::int64_t begin, std::int64_t end) {
        if (params.inner == 1) {
            softmaxRows(params.kind, params.x + begin * rowSize, params.y + begin * rowSize, end - begin,
                        rowSize);
        } else {
            for (std::int64_t outer = begin; outer < end; ++outer) softmaxColumns(params, outer);
        }
    });
}

void softmax(const MaskedSoftmax& params) {
    TCOMPRESS_CHECK(!params.mask || params.maskStrides.size() == params.rowShape.size(),
                    "softmax: the mask needs one stride a row dimension");
    std::int64_t rows = 1;
    for (const std::int64_t size : params.rowShape) rows *= size;
    if (rows * params.columns == 0) return;
    const std::int64_t grain = std::max<std::int64_t>(1, kTaskElements / params.columns);
    parallelRanges(rows, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const float* mask = params.mask;
            if (mask) {
                std::int64_t index = row;
                for (std::size_t d = params.rowShape.size(); d-- > 0; index /= params.rowShape[d])
                    mask += index % params.rowShape[d] * params.maskStrides[d];
            }
            maskedRow(params.x + row * params.columns, params.y + row * params.columns, params.columns,
                      params.scale, mask, params.maskColumnStride);
        }
    });
}

}  // namespace tcompress::kernels
