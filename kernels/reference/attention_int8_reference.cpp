#include "kernels/reference/attention_int8_reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

std::int32_t stored(const void* data, const Int8Code& code, std::int64_t index) {
    return code.type == DType::uint8 ? static_cast<const std::uint8_t*>(data)[index]
                                     : static_cast<const std::int8_t*>(data)[index];
}

std::int32_t codeOf(float value, const Int8Code& code) {
    const std::int32_t low = code.type == DType::uint8 ? 0 : -128;
    return static_cast<std::int32_t>(
        std::clamp<float>(std::nearbyint(value / code.scale) + static_cast<float>(code.zeroPoint),
                          static_cast<float>(low), static_cast<float>(low + 255)));
}

float rounded(float value, const std::optional<Int8Code>& code) {
    return code ? static_cast<float>(codeOf(value, *code) - code->zeroPoint) * code->scale : value;
}

std::int64_t placeOf(const HeadStrides& strides, std::int64_t batch, std::int64_t head, std::int64_t row) {
    return batch * strides.batch + head * strides.head + row * strides.row;
}

void runQuery(const Int8Attention& p, std::int64_t batch, std::int64_t head, std::int64_t query) {
    const std::int64_t shared = head * p.keyValueHeads / p.queryHeads;
    std::vector<float> scores;
    for (std::int64_t key = 0; key < p.keyLength; ++key) {
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < p.headSize; ++i)
            sum += (stored(p.q, p.qCode, placeOf(p.qStrides, batch, head, query) + i) - p.qCode.zeroPoint) *
                   (stored(p.k, p.kCode, placeOf(p.kStrides, batch, shared, key) + i) - p.kCode.zeroPoint);
        float score = rounded(static_cast<float>(sum) * (p.qCode.scale * p.kCode.scale), p.productCode);
        score = rounded(score * p.scale, p.scaledCode);
        if (p.mask) score += p.mask[placeOf(p.maskStrides, batch, head, query) + key * p.maskColumnStride];
        scores.push_back(rounded(score, p.maskedCode));
    }
    const float largest = scores.empty() ? 0.0F : *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (float score : scores) total += std::exp(static_cast<double>(score - largest));
    std::vector<std::int32_t> codes;
    for (float score : scores)
        codes.push_back(codeOf(static_cast<float>(std::exp(static_cast<double>(score - largest)) / total),
                               p.probabilityCode));
    for (std::int64_t i = 0; i < p.valueHeadSize; ++i) {
        std::int32_t sum = 0;
        for (std::int64_t key = 0; key < p.keyLength; ++key)
            sum += (codes[static_cast<std::size_t>(key)] - p.probabilityCode.zeroPoint) *
                   (stored(p.v, p.vCode, placeOf(p.vStrides, batch, shared, key) + i) - p.vCode.zeroPoint);
        const float value = static_cast<float>(sum) * (p.probabilityCode.scale * p.vCode.scale);
        const std::int64_t place = placeOf(p.outStrides, batch, head, query) + i;
        if (p.outCode)
            static_cast<std::uint8_t*>(p.out)[place] = static_cast<std::uint8_t>(codeOf(value, *p.outCode));
        else
            static_cast<float*>(p.out)[place] = value;
    }
}

}  // namespace

void attentionInt8Reference(const Int8Attention& params) {
    parallelFor(params.batch * params.queryHeads, [&](std::int64_t index) {
        for (std::int64_t query = 0; query < params.queryLength; ++query)
            runQuery(params, index / params.queryHeads, index % params.queryHeads, query);
    });
}

}  // namespace tcompress::kernels
