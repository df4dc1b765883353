// Attention of a few queries, as in decoding: the work is to read keys and values once, in the order they lie in memory.

#include <cmath>
#include <limits>

#include "kernels/aligned_buffer.h"
#include "kernels/native/attention_slice.h"
#include "kernels/native/vector_math.h"

namespace tcompress::kernels {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct RowScores;

/// scores[j] = factor · q · k_j.
TCOMPRESS_MULTIVERSION void dotRows(const float* q, const float* k, std::int64_t kStride, std::int64_t keys,
                                    std::int64_t size, float factor, float* scores) {
    for (std::int64_t key = 0; key < keys; ++key, k += kStride) {
        FloatVector sum{};
        std::int64_t i = 0;
        for (; i + kLanes <= size; i += kLanes) sum += loadVector(q + i) * loadVector(k + i);
        if (i < size) sum += loadPart(q + i, size - i) * loadPart(k + i, size - i);
        scores[key] = sumLanes(sum) * factor;
    }
}

/// Scores become e^(s − max) / sum; zeros when no key is seen. There are `padded` ≥ count of them, a whole number of
/// vectors; those after `count` become zero.
TCOMPRESS_MULTIVERSION void softmaxRow(float* s, std::int64_t count, std::int64_t padded) {
    std::fill(s + count, s + padded, -kInfinity);
    FloatVector best = broadcastVector(-kInfinity);
    for (std::int64_t i = 0; i < padded; i += kLanes) {
        const FloatVector value = loadVector(s + i);
        best = best < value ? value : best;
    }
    const float max = maxLanes(best);
    const float shift = max == -kInfinity ? 0.0F : max;
    FloatVector sum{};
    for (std::int64_t i = 0; i < padded; i += kLanes) {
        const FloatVector value = expNonPositive(loadVector(s + i) - shift);
        storeVector(s + i, value);
        sum += value;
    }
    const float total = sumLanes(sum);
    const float factor = total == 0.0F ? 0.0F : 1.0F / total;
    mapVectors(
        s, s, padded, [=](FloatVector v) __attribute__((always_inline)) { return v * factor; });
}

TCOMPRESS_MULTIVERSION void capScores(float* s, std::int64_t count, float softcap) {
    mapVectors(
        s, s, count, [=](FloatVector v) __attribute__((always_inline)) { return tanhVector(v) * softcap; });
}

void maskRow(const Attention& params, std::int64_t offset, float* s, std::int64_t count) {
    const std::int64_t step = params.maskColumnStride;
    if (params.mask) {
        for (std::int64_t i = 0; i < count; ++i) s[i] += params.mask[offset + i * step];
    } else if (params.allowed) {
        for (std::int64_t i = 0; i < count; ++i)
            if (!params.allowed[offset + i * step]) s[i] = -kInfinity;
    }
}

}  // namespace

void attendRows(const AttentionSlice& slice) {
    const Attention& params = slice.params;
    const std::int64_t padded = ceilDivide(slice.keys, kLanes) * kLanes;
    float* scores = threadScratch<RowScores, float>(slice.rows * padded);
    const bool capped = params.softcap > 0;
    for (std::int64_t row = 0; row < slice.rows; ++row) {
        std::int64_t count = slice.keys;
        if (params.causality == Causality::causal)
            count = std::min(count, slice.query + row + params.pastLength + 1);
        count = std::max<std::int64_t>(count, 0);
        float* s = scores + row * padded;
        dotRows(slice.q + row * params.qStrides.row, slice.k, params.kStrides.row, count, params.headSize,
                capped ? params.scale / params.softcap : params.scale, s);
        if (capped) capScores(s, count, params.softcap);
        maskRow(params, slice.maskOffset + row * params.maskStrides.row, s, count);
        softmaxRow(s, count, padded);
    }
    multiplyPanels({scores, padded}, slice.rows, slice.keys, valuePanels(slice), params.valueHeadSize, slice.out,
                   params.outStrides.row, PanelTask::Part::only);
}

}  // namespace tcompress::kernels
