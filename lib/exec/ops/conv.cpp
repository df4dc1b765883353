// Convolutions.

#include "kernels/conv.h"

#include <algorithm>

#include "kernels/quantize.h"
#include "lib/exec/ops/integer_matmul.h"
#include "lib/exec/ops/window.h"

namespace tcompress::exec {

namespace {

void requireWeights(const Shape& x, const Shape& w, std::int64_t groups) {
    if (w.size() != x.size() || x.size() < 3 || w[1] * groups != x[1] || w[0] % groups != 0) {
        throw ModelError(fmt::format("weights {} in {} groups do not fit input {}", toString(w), groups, toString(x)));
    }
}

/// Any number of axes and any type: the sum over the window in the type of the result.
template <class X, class W, class Y>
void plainConvolution(const WindowGeometry& g, const Shape& xShape, const Shape& wShape, std::int64_t groups, X&& x, W&& w, Y* y) {
    const std::int64_t channels = wShape[1];
    const std::int64_t outputs = wShape[0];
    parallelFor(xShape[0] * outputs, [&](std::int64_t plane) {
        const std::int64_t batch = plane / outputs;
        const std::int64_t output = plane % outputs;
        const std::int64_t firstChannel = output / (outputs / groups) * channels;
        for (std::int64_t position = 0; position < g.outputSize(); ++position) {
            Y sum{};
            for (std::int64_t tap = 0; tap < g.kernelSize(); ++tap) {
                const std::int64_t source = g.source(position, tap);
                if (source < 0) continue;
                for (std::int64_t c = 0; c < channels; ++c) {
                    sum += x((batch * xShape[1] + firstChannel + c) * g.inputSize() + source) *
                           w((output * channels + c) * g.kernelSize() + tap, output);
                }
            }
            y[plane * g.outputSize() + position] = sum;
        }
    });
}

void addChannelBias(const float* bias, std::int64_t planes, std::int64_t channels, std::int64_t inner, float* y) {
    for (std::int64_t plane = 0; plane < planes; ++plane) {
        for (std::int64_t i = 0; i < inner; ++i) y[plane * inner + i] += bias[plane % channels];
    }
}

Runner makeConv(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const std::int64_t groups = info.attributes.integer("group", 1);
    auto cache = info.constant(1) ? std::make_shared<std::shared_ptr<const kernels::ConvolutionCache>>() : nullptr;
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& w = context.input(1);
        requireWeights(x.shape(), w.shape(), groups);
        const WindowGeometry g = windowGeometry(x.shape(), attributes, {w.shape().begin() + 2, w.shape().end()});
        const std::int64_t outputs = w.shape()[0];
        float* y = context.output<float>(0, resultShape(x.shape()[0], outputs, g.output)).data();
        const float* bias = context.has(2) ? context.data<float>(2).data() : nullptr;
        if (bias && context.input(2).size() != outputs) {
            throw ModelError(fmt::format("a bias of shape {} for {} outputs", toString(context.input(2).shape()), outputs));
        }
        if (g.axes() > 2) {
            const auto xs = x.data<float>();
            const auto ws = w.data<float>();
            plainConvolution(
                g, x.shape(), w.shape(), groups, [&](std::int64_t i) { return xs[static_cast<std::size_t>(i)]; },
                [&](std::int64_t i, std::int64_t) { return ws[static_cast<std::size_t>(i)]; }, y);
            if (bias) addChannelBias(bias, x.shape()[0] * outputs, outputs, g.outputSize(), y);
            return;
        }
        kernels::Convolution params;
        params.batch = x.shape()[0];
        params.channels = x.shape()[1];
        params.outputs = outputs;
        params.groups = groups;
        params.input = planeOf(g.input);
        params.output = planeOf(g.output);
        params.window = g.kernelWindow();
        params.x = x.data<float>().data();
        params.w = w.data<float>().data();
        params.bias = bias;
        params.y = y;
        params.cache = cache.get();
        kernels::convolution(params);
    };
}

/// Sum of (x − xZero) · (w − wZero[output]) in int32.
void integerConvolution(const WindowGeometry& g, const Tensor& x, const Tensor& w, std::int64_t groups, const std::vector<std::int32_t>& xZero,
                        const std::vector<std::int32_t>& wZero, std::int32_t* y) {
    const std::vector<std::int64_t> xs = toInt64(x);
    const std::vector<std::int64_t> ws = toInt64(w);
    if (xZero.size() > 1 || (wZero.size() > 1 && wZero.size() != static_cast<std::size_t>(w.shape()[0]))) {
        throw ModelError(fmt::format("{} and {} zero points for one input and {} outputs", xZero.size(), wZero.size(), w.shape()[0]));
    }
    const std::int64_t zero = xZero.empty() ? 0 : xZero.front();
    plainConvolution(
        g, x.shape(), w.shape(), groups, [&](std::int64_t i) { return static_cast<std::int32_t>(xs[static_cast<std::size_t>(i)] - zero); },
        [&](std::int64_t i, std::int64_t output) {
            const std::int32_t own = wZero.empty() ? 0 : wZero[wZero.size() == 1 ? 0 : static_cast<std::size_t>(output)];
            return static_cast<std::int32_t>(ws[static_cast<std::size_t>(i)]) - own;
        },
        y);
}

/// Inputs x, w, [x zero point], [w zero point].
Runner makeConvInteger(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const std::int64_t groups = info.attributes.integer("group", 1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& w = context.input(1);
        requireWeights(x.shape(), w.shape(), groups);
        const WindowGeometry g = windowGeometry(x.shape(), attributes, {w.shape().begin() + 2, w.shape().end()});
        integerConvolution(g, x, w, groups, zeroPointValues(context.optionalInput(2)), zeroPointValues(context.optionalInput(3)),
                           context.output<std::int32_t>(0, resultShape(x.shape()[0], w.shape()[0], g.output)).data());
    };
}

/// Inputs x, its scale and zero point, w, its scale(s) and zero point(s), the result's scale and zero point, [int32 bias].
Runner makeQLinearConv(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const std::int64_t groups = info.attributes.integer("group", 1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& w = context.input(3);
        requireWeights(x.shape(), w.shape(), groups);
        const WindowGeometry g = windowGeometry(x.shape(), attributes, {w.shape().begin() + 2, w.shape().end()});
        const Shape shape = resultShape(x.shape()[0], w.shape()[0], g.output);
        const auto sums = context.scratch<std::int32_t>(elementCount(shape));
        integerConvolution(g, x, w, groups, zeroPointValues(&context.input(2)), zeroPointValues(&context.input(5)), sums.get());
        const float xScale = realScalar(context.input(1));
        const std::vector<float> wScale = toFloat32(context.input(4));
        const auto isPerOutput = [&](const Tensor& tensor) { return tensor.size() == w.shape()[0]; };
        if ((wScale.size() != 1 && !isPerOutput(context.input(4))) || (context.has(8) && !isPerOutput(context.input(8))) ||
            context.input(7).size() != 1) {
            throw ModelError(fmt::format("scales, zero point or bias do not fit {} outputs", w.shape()[0]));
        }
        const float yScale = realScalar(context.input(6));
        const Tensor& yZero = context.input(7);
        const auto real = context.scratch<float>(elementCount(shape));
        for (std::int64_t i = 0; i < elementCount(shape); ++i) {
            const auto output = static_cast<std::size_t>(i / g.outputSize() % w.shape()[0]);
            const std::int32_t sum = sums.get()[i] + (context.has(8) ? context.data<std::int32_t>(8)[output] : 0);
            real.get()[i] = static_cast<float>(sum) * (xScale * wScale[wScale.size() == 1 ? 0 : output] / yScale);
        }
        const float one = 1;
        kernels::QuantizeLinear params;
        params.layout.axis = elementCount(shape);
        params.x = real.get();
        params.scales = &one;
        params.zeroPoints = yZero.bytes().data();
        params.type = yZero.dtype();
        params.y = context.outputBytes(0, yZero.dtype(), shape);
        kernels::quantizeLinear(params);
    };
}

/// Every input element adds a scaled window to the output. w is [channels, outputs / groups, kernel…].
Runner makeConvTranspose(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const std::int64_t groups = info.attributes.integer("group", 1);
    const auto outputShape = info.attributes.integers("output_shape");
    const auto outputPadding = info.attributes.integers("output_padding");
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& w = context.input(1);
        if (x.rank() < 3 || w.rank() != x.rank() || groups <= 0 || w.shape()[0] != x.shape()[1] || x.shape()[1] % groups != 0 ||
            (context.has(2) && context.input(2).size() != w.shape()[1] * groups)) {
            throw ModelError(fmt::format("weights of shape {} and {} groups do not fit {}", toString(w.shape()), groups, toString(x.shape())));
        }
        const std::size_t axes = x.shape().size() - 2;
        const auto entry = [](const std::vector<std::int64_t>& list, std::size_t i, std::int64_t fallback) { return list.empty() ? fallback : list.at(i); };
        // The geometry of the convolution that maps the output back to the input.
        WindowGeometry g;
        for (std::size_t i = 0; i < axes; ++i) {
            const std::int64_t size = x.shape()[2 + i];
            const std::int64_t stride = entry(attributes.strides, i, 1);
            const std::int64_t dilation = entry(attributes.dilations, i, 1);
            const std::int64_t extra = outputPadding ? outputPadding->at(i) : 0;
            constexpr std::int64_t kLargest = std::int64_t{1} << 24;
            if (stride <= 0 || dilation <= 0 || stride > kLargest || dilation > kLargest || extra < 0 || extra > kLargest) {
                throw ModelError(fmt::format("stride {}, dilation {} and output padding {}", stride, dilation, extra));
            }
            const std::int64_t whole = stride * (size - 1) + extra + (w.shape()[2 + i] - 1) * dilation + 1;
            std::int64_t begin = entry(attributes.pads, i, 0);
            std::int64_t result = whole - begin - entry(attributes.pads, i + axes, 0);
            const bool same = attributes.automatic == AutoPad::sameUpper || attributes.automatic == AutoPad::sameLower;
            if (outputShape || same) {
                if (outputShape && outputShape->size() < axes) throw ModelError("output_shape has too few entries");
                result = outputShape ? outputShape->at(outputShape->size() - axes + i) : size * stride;
                const std::int64_t pad = std::max<std::int64_t>(0, whole - result);
                begin = attributes.automatic == AutoPad::sameUpper ? pad / 2 : pad - pad / 2;
            }
            g.kernel.push_back(w.shape()[2 + i]);
            g.stride.push_back(stride);
            g.dilation.push_back(dilation);
            g.padBegin.push_back(begin);
            g.input.push_back(result);
            g.output.push_back(size);
        }
        const std::int64_t channels = x.shape()[1];
        const std::int64_t perGroup = w.shape()[1];
        const std::int64_t outputs = perGroup * groups;
        const auto y = context.output<float>(0, resultShape(x.shape()[0], outputs, g.input));
        std::fill(y.begin(), y.end(), 0.0F);
        const auto xs = x.data<float>();
        const auto ws = w.data<float>();
        parallelFor(x.shape()[0] * outputs, [&](std::int64_t plane) {
            const std::int64_t batch = plane / outputs;
            const std::int64_t output = plane % outputs;
            const std::int64_t group = output / perGroup;
            float* target = y.data() + plane * g.inputSize();
            for (std::int64_t c = group * (channels / groups); c < (group + 1) * (channels / groups); ++c) {
                const float* source = xs.data() + (batch * channels + c) * g.outputSize();
                const float* weights = ws.data() + (c * perGroup + output % perGroup) * g.kernelSize();
                for (std::int64_t position = 0; position < g.outputSize(); ++position) {
                    for (std::int64_t tap = 0; tap < g.kernelSize(); ++tap) {
                        const std::int64_t at = g.source(position, tap);
                        if (at >= 0) target[at] += source[position] * weights[tap];
                    }
                }
            }
        });
        if (context.has(2)) addChannelBias(context.data<float>(2).data(), x.shape()[0] * outputs, outputs, g.inputSize(), y.data());
    };
}

const OperatorRow kRows[] = {
    {"", "Conv", 1, makeConv, kFloatTypes, FloatSupport::float32},
    {"", "ConvTranspose", 1, makeConvTranspose, kFloatTypes, FloatSupport::float32},
    {"", "ConvInteger", 10, makeConvInteger, kByteTypes, FloatSupport::all},
    {"", "QLinearConv", 10, makeQLinearConv, kByteTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> convOperators() { return kRows; }

}  // namespace tcompress::exec
