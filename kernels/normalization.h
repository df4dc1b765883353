#pragma once
// Normalizations on float32. Mean and variance are taken in two passes (the mean first, then the squared
// differences), in float32 lanes combined in a fixed order.

#include <cstdint>

namespace tcompress::kernels {

/// y[r, :] = (s − mean(s)) / sqrt(var(s) + epsilon) · gamma + beta with s = x[r, :] + skip[r, :] + skipBias.
/// Ba, Kiros and Hinton, 2016. Optional inputs are null; optional outputs are not written when null.
struct LayerNormalization {
    std::int64_t rows = 0, columns = 0;
    const float* x = nullptr;         // [rows, columns]
    const float* skip = nullptr;      // [rows, columns] (row r of skipRows when that is set: r mod skipRows)
    std::int64_t skipRows = 0;        // 0: as many as rows
    const float* skipBias = nullptr;  // [columns]
    const float* gamma = nullptr;     // [columns], null = 1
    const float* beta = nullptr;      // [columns], null = 0
    float epsilon = 1e-5F;
    float* y = nullptr;
    float* sum = nullptr;     // s, [rows, columns]
    float* mean = nullptr;    // [rows]
    float* invStd = nullptr;  // [rows]
};
void layerNormalization(const LayerNormalization& params);

/// y[r, :] = s / sqrt(mean(s²) + epsilon) · gamma with s as above. Zhang and Sennrich, 2019.
struct RmsNormalization {
    std::int64_t rows = 0, columns = 0;
    const float* x = nullptr;
    const float* skip = nullptr;
    std::int64_t skipRows = 0;
    const float* skipBias = nullptr;
    const float* gamma = nullptr;
    float epsilon = 1e-5F;
    float* y = nullptr;
    float* sum = nullptr;
    float* invStd = nullptr;  // [rows]
};
void rmsNormalization(const RmsNormalization& params);

/// Inference form, x[outer, channels, inner]: y = (x − mean[c]) / sqrt(variance[c] + epsilon) · gamma[c] +
/// beta[c].
struct BatchNormalization {
    std::int64_t outer = 0, channels = 0, inner = 0;
    const float* x = nullptr;
    const float *gamma = nullptr, *beta = nullptr, *mean = nullptr, *variance = nullptr;
    float epsilon = 1e-5F;
    float* y = nullptr;
};
void batchNormalization(const BatchNormalization& params);

/// Over each of `groups` groups of channels of x[outer, channels, inner], then gamma[c] and beta[c] (Wu and
/// He, 2018). groups = channels is InstanceNormalization.
struct GroupNormalization {
    std::int64_t outer = 0, channels = 0, inner = 0, groups = 1;
    const float* x = nullptr;
    const float *gamma = nullptr, *beta = nullptr;
    float epsilon = 1e-5F;
    float* y = nullptr;
};
void groupNormalization(const GroupNormalization& params);

}  // namespace tcompress::kernels
