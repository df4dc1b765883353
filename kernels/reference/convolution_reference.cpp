#include "kernels/reference/convolution_reference.h"

#include "kernels/reference/matmul_reference.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

double windowSum(const Convolution& params, const float* x, const float* w, std::int64_t oh,
                 std::int64_t ow) {
    const Window& window = params.window;
    const std::int64_t channels = params.channels / params.groups;
    double sum = 0;
    for (std::int64_t c = 0; c < channels; ++c)
        for (std::int64_t kh = 0; kh < window.kernel[0]; ++kh)
            for (std::int64_t kw = 0; kw < window.kernel[1]; ++kw) {
                const std::int64_t ih = oh * window.stride[0] - window.padBegin[0] + kh * window.dilation[0];
                const std::int64_t iw = ow * window.stride[1] - window.padBegin[1] + kw * window.dilation[1];
                if (ih < 0 || ih >= params.input[0] || iw < 0 || iw >= params.input[1]) continue;
                sum += static_cast<double>(x[(c * params.input[0] + ih) * params.input[1] + iw]) *
                       w[(c * window.kernel[0] + kh) * window.kernel[1] + kw];
            }
    return sum;
}

}  // namespace

void convolutionReference(const Convolution& params) {
    const std::int64_t channels = params.channels / params.groups;
    const std::int64_t outputs = params.outputs / params.groups;
    const std::int64_t filter = channels * params.window.kernel[0] * params.window.kernel[1];
    parallelFor(params.batch * params.outputs, [&](std::int64_t index) {
        const std::int64_t image = index / params.outputs;
        const std::int64_t o = index % params.outputs;
        const float* x =
            params.x + (image * params.channels + o / outputs * channels) * params.input[0] * params.input[1];
        float* y = params.y + index * params.output[0] * params.output[1];
        for (std::int64_t oh = 0; oh < params.output[0]; ++oh)
            for (std::int64_t ow = 0; ow < params.output[1]; ++ow) {
                double value = windowSum(params, x, params.w + o * filter, oh, ow);
                if (params.bias) value += params.bias[o];
                y[oh * params.output[1] + ow] =
                    static_cast<float>(activateReference(params.activation, value));
            }
    });
}

}  // namespace tcompress::kernels
