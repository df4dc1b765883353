#include "kernels/conv.h"

#include <algorithm>
#include <array>
#include <limits>

#include "kernels/native/convolution_patches.h"
#include "kernels/onednn/convolution.h"
#include "kernels/reference/convolution_reference.h"
#include "kernels/run_kernel.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::array kConvolutions{
    KernelRow<Convolution>{"patches", refusePatches, convolutionPatches},
    KernelRow<Convolution>{"onednn", onednn::refuseConvolution, onednn::convolution},
    KernelRow<Convolution>{"reference", onednn::refuseConvolution, convolutionReference},
};

/// The positions of a window along one dimension that lie inside the input.
struct Reach {
    std::int64_t first = 0, last = 0;  // window indices [first, last)
    std::int64_t origin = 0;           // input index of window index 0
};

Reach reachOf(std::int64_t output, std::int64_t input, std::int64_t kernel, std::int64_t stride,
              std::int64_t dilation, std::int64_t pad) {
    Reach reach;
    reach.origin = output * stride - pad;
    while (reach.first < kernel && reach.origin + reach.first * dilation < 0) ++reach.first;
    reach.last = kernel;
    while (reach.last > reach.first && reach.origin + (reach.last - 1) * dilation >= input) --reach.last;
    return reach;
}

/// Window positions within the padded input: what averageIncludePad divides by.
std::int64_t paddedCount(const Reach& reach, std::int64_t input, std::int64_t kernel, std::int64_t dilation,
                         std::int64_t padEnd) {
    std::int64_t count = kernel;
    while (count > 0 && reach.origin + (count - 1) * dilation >= input + padEnd) --count;
    return count;
}

void poolPlane(const Pooling& params, const float* x, float* y) {
    const Window& w = params.window;
    for (std::int64_t oh = 0; oh < params.output[0]; ++oh) {
        const Reach vertical =
            reachOf(oh, params.input[0], w.kernel[0], w.stride[0], w.dilation[0], w.padBegin[0]);
        for (std::int64_t ow = 0; ow < params.output[1]; ++ow) {
            const Reach across =
                reachOf(ow, params.input[1], w.kernel[1], w.stride[1], w.dilation[1], w.padBegin[1]);
            float best = -std::numeric_limits<float>::infinity();
            float sum = 0;
            for (std::int64_t kh = vertical.first; kh < vertical.last; ++kh)
                for (std::int64_t kw = across.first; kw < across.last; ++kw) {
                    const float value = x[(vertical.origin + kh * w.dilation[0]) * params.input[1] +
                                          across.origin + kw * w.dilation[1]];
                    best = value > best || value != value ? value : best;
                    sum += value;
                }
            std::int64_t count = (vertical.last - vertical.first) * (across.last - across.first);
            if (params.kind == PoolKind::averageIncludePad)
                count = paddedCount(vertical, params.input[0], w.kernel[0], w.dilation[0], w.padEnd[0]) *
                        paddedCount(across, params.input[1], w.kernel[1], w.dilation[1], w.padEnd[1]);
            float& target = y[oh * params.output[1] + ow];
            target = params.kind == PoolKind::max ? best
                     : count == 0                 ? 0.0F
                                                  : sum / static_cast<float>(count);
        }
    }
}

}  // namespace

std::span<const KernelRow<Convolution>> convolutionKernels() { return kConvolutions; }

void convolution(const Convolution& params) {
    TCOMPRESS_CHECK(
        params.groups > 0 && params.channels % params.groups == 0 && params.outputs % params.groups == 0,
        "convolution: channels and outputs must divide into groups");
    if (params.batch * params.outputs * params.output[0] * params.output[1] == 0) return;
    runKernel(convolutionKernels(), params);
}

void pooling(const Pooling& params) {
    const std::int64_t outputPlane = params.output[0] * params.output[1];
    const std::int64_t work =
        std::max<std::int64_t>(1, outputPlane * params.window.kernel[0] * params.window.kernel[1]);
    parallelRanges(params.planes, std::max<std::int64_t>(1, 16384 / work),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t plane = begin; plane < end; ++plane)
                           poolPlane(params, params.x + plane * params.input[0] * params.input[1],
                                     params.y + plane * outputPlane);
                   });
}

}  // namespace tcompress::kernels
