#include "kernels/normalization.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/native/vector_math.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kTaskElements = 16384;

/// s = x + skip + skipBias into `sum`; returns where s is (x itself when nothing is added).
TCOMPRESS_INLINE const float* addSkip(const float* x, const float* skip, const float* skipBias, float* sum,
                                      std::int64_t count) {
    if (!skip && !skipBias) {
        if (sum) std::memcpy(sum, x, static_cast<std::size_t>(count) * sizeof(float));
        return x;
    }
    for (std::int64_t i = 0; i < count; ++i) {
        float value = x[i];
        if (skip) value += skip[i];
        if (skipBias) value += skipBias[i];
        sum[i] = value;
    }
    return sum;
}

TCOMPRESS_INLINE float sumOf(const float* x, std::int64_t count) {
    FloatVector first{};
    FloatVector second{};
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
        first += loadVector(x + i);
        second += loadVector(x + i + kLanes);
    }
    if (i + kLanes <= count) {
        second += loadVector(x + i);
        i += kLanes;
    }
    if (i < count) first += loadPart(x + i, count - i);
    return sumLanes(first + second);
}

TCOMPRESS_INLINE float squareSumOf(const float* x, std::int64_t count, float shift) {
    FloatVector first{};
    FloatVector second{};
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
        const FloatVector a = loadVector(x + i) - shift;
        const FloatVector b = loadVector(x + i + kLanes) - shift;
        first += a * a;
        second += b * b;
    }
    if (i + kLanes <= count) {
        const FloatVector a = loadVector(x + i) - shift;
        second += a * a;
        i += kLanes;
    }
    if (i < count) {
        const FloatVector a = loadPart(x + i, count - i, shift) - shift;
        first += a * a;
    }
    return sumLanes(first + second);
}

/// y = (x − shift) · factor · gamma + beta.
TCOMPRESS_INLINE void scaleRow(const float* x, float* y, std::int64_t count, float shift, float factor,
                               const float* gamma, const float* beta) {
    if (gamma && beta) {
        for (std::int64_t i = 0; i < count; ++i) y[i] = (x[i] - shift) * factor * gamma[i] + beta[i];
    } else if (gamma) {
        for (std::int64_t i = 0; i < count; ++i) y[i] = (x[i] - shift) * factor * gamma[i];
    } else if (beta) {
        for (std::int64_t i = 0; i < count; ++i) y[i] = (x[i] - shift) * factor + beta[i];
    } else {
        for (std::int64_t i = 0; i < count; ++i) y[i] = (x[i] - shift) * factor;
    }
}

template <class Params>
TCOMPRESS_INLINE const float* skipRow(const Params& params, std::int64_t row) {
    if (!params.skip) return nullptr;
    return params.skip + (params.skipRows > 0 ? row % params.skipRows : row) * params.columns;
}

TCOMPRESS_MULTIVERSION void layerNormalizationRows(const LayerNormalization& params, std::int64_t begin,
                                                   std::int64_t end) {
    const std::int64_t n = params.columns;
    for (std::int64_t row = begin; row < end; ++row) {
        float* y = params.y + row * n;
        // Without a sum output s is built in y itself, which is read before it is written element by element.
        float* sum = params.sum ? params.sum + row * n : params.skip || params.skipBias ? y : nullptr;
        const float* s = addSkip(params.x + row * n, skipRow(params, row), params.skipBias, sum, n);
        const auto count = static_cast<float>(n);
        const float mean = sumOf(s, n) / count;
        const float variance = squareSumOf(s, n, mean) / count;
        const float invStd = 1.0F / __builtin_sqrtf(variance + params.epsilon);
        scaleRow(s, y, n, mean, invStd, params.gamma, params.beta);
        if (params.mean) params.mean[row] = mean;
        if (params.invStd) params.invStd[row] = invStd;
    }
}

TCOMPRESS_MULTIVERSION void rmsNormalizationRows(const RmsNormalization& params, std::int64_t begin,
                                                 std::int64_t end) {
    const std::int64_t n = params.columns;
    for (std::int64_t row = begin; row < end; ++row) {
        float* y = params.y + row * n;
        float* sum = params.sum ? params.sum + row * n : params.skip || params.skipBias ? y : nullptr;
        const float* s = addSkip(params.x + row * n, skipRow(params, row), params.skipBias, sum, n);
        const float meanSquare = squareSumOf(s, n, 0.0F) / static_cast<float>(n);
        const float invStd = 1.0F / __builtin_sqrtf(meanSquare + params.epsilon);
        scaleRow(s, y, n, 0.0F, invStd, params.gamma, nullptr);
        if (params.invStd) params.invStd[row] = invStd;
    }
}

TCOMPRESS_MULTIVERSION void affineRow(const float* x, float* y, std::int64_t count, float factor,
                                      float offset) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] * factor + offset;
}

TCOMPRESS_MULTIVERSION void momentsOf(const float* x, std::int64_t count, float* mean, float* variance) {
    *mean = sumOf(x, count) / static_cast<float>(count);
    *variance = squareSumOf(x, count, *mean) / static_cast<float>(count);
}

std::int64_t rowGrain(std::int64_t rowSize) { return std::max<std::int64_t>(1, kTaskElements / rowSize); }

}  // namespace

void layerNormalization(const LayerNormalization& params) {
    if (params.rows * params.columns == 0) return;
    parallelRanges(params.rows, rowGrain(params.columns),
                   [&](std::int64_t begin, std::int64_t end) { layerNormalizationRows(params, begin, end); });
}

void rmsNormalization(const RmsNormalization& params) {
    if (params.rows * params.columns == 0) return;
    parallelRanges(params.rows, rowGrain(params.columns),
                   [&](std::int64_t begin, std::int64_t end) { rmsNormalizationRows(params, begin, end); });
}

void batchNormalization(const BatchNormalization& params) {
    if (params.outer * params.channels * params.inner == 0) return;
    std::vector<float> factor(static_cast<std::size_t>(params.channels));
    std::vector<float> offset(factor.size());
    for (std::size_t c = 0; c < factor.size(); ++c) {
        factor[c] = params.gamma[c] / std::sqrt(params.variance[c] + params.epsilon);
        offset[c] = params.beta[c] - params.mean[c] * factor[c];
    }
    parallelRanges(params.outer * params.channels, rowGrain(params.inner),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t plane = begin; plane < end; ++plane) {
                           const auto c = static_cast<std::size_t>(plane % params.channels);
                           affineRow(params.x + plane * params.inner, params.y + plane * params.inner,
                                     params.inner, factor[c], offset[c]);
                       }
                   });
}

void groupNormalization(const GroupNormalization& params) {
    if (params.outer * params.channels * params.inner == 0) return;
    TCOMPRESS_CHECK(params.groups > 0 && params.channels % params.groups == 0,
                    "groupNormalization: channels must divide into groups");
    const std::int64_t channelsPerGroup = params.channels / params.groups;
    const std::int64_t groupSize = channelsPerGroup * params.inner;
    parallelRanges(
        params.outer * params.groups, rowGrain(groupSize), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t group = begin; group < end; ++group) {
                const float* x = params.x + group * groupSize;
                float* y = params.y + group * groupSize;
                float mean = 0;
                float variance = 0;
                momentsOf(x, groupSize, &mean, &variance);
                const float invStd = 1.0F / std::sqrt(variance + params.epsilon);
                for (std::int64_t c = 0; c < channelsPerGroup; ++c) {
                    const std::int64_t channel = group % params.groups * channelsPerGroup + c;
                    const float factor = invStd * (params.gamma ? params.gamma[channel] : 1.0F);
                    const float offset = (params.beta ? params.beta[channel] : 0.0F) - mean * factor;
                    affineRow(x + c * params.inner, y + c * params.inner, params.inner, factor, offset);
                }
            }
        });
}

}  // namespace tcompress::kernels
