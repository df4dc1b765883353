#pragma once
// Convolution and pooling, float32, channels first, 1 or 2 spatial dimensions (1-d: height 1).

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/activation.h"
#include "kernels/table.h"

namespace tcompress::kernels {

/// Window geometry in {height, width}.
struct Window {
    std::array<std::int64_t, 2> kernel{1, 1};
    std::array<std::int64_t, 2> stride{1, 1};
    std::array<std::int64_t, 2> dilation{1, 1};
    std::array<std::int64_t, 2> padBegin{0, 0};
    std::array<std::int64_t, 2> padEnd{0, 0};
};

class ConvolutionCache;

/// y[n, o, :, :] = activation(bias[o] + Σ_{c in group, window} x · w), dense NCHW x and OIHW w (I = channels
/// / groups).
struct Convolution {
    std::int64_t batch = 0, channels = 0, outputs = 0, groups = 1;
    std::array<std::int64_t, 2> input{0, 0}, output{0, 0};
    Window window;
    const float* x = nullptr;
    const float* w = nullptr;
    const float* bias = nullptr;
    Activation activation = Activation::none;
    float* y = nullptr;
    /// Keeps packed weights between calls: starts as null, is filled by the first call and remade when the
    /// shapes change. One per constant w; not to be used by two calls at once. Null packs each time.
    std::shared_ptr<const ConvolutionCache>* cache = nullptr;
};
void convolution(const Convolution& params);
std::span<const KernelRow<Convolution>> convolutionKernels();

enum class PoolKind { max, averageIncludePad, averageExcludePad };
/// x[planes, input], y[planes, output], planes = batch · channels. The window may run past padEnd (ceil
/// mode); such positions count as outside for both averages.
struct Pooling {
    PoolKind kind = PoolKind::max;
    std::int64_t planes = 0;
    std::array<std::int64_t, 2> input{0, 0}, output{0, 0};
    Window window;
    const float* x = nullptr;
    float* y = nullptr;
};
void pooling(const Pooling& params);

}  // namespace tcompress::kernels
