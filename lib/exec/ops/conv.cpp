// Convolution and pooling over one or two spatial axes.

#include "kernels/conv.h"

#include <algorithm>

#include "kernels/reduce.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

enum class AutoPad { explicitPads, sameUpper, sameLower, valid };

AutoPad autoPad(const std::string& name) {
    if (name == "NOTSET") return AutoPad::explicitPads;
    if (name == "SAME_UPPER") return AutoPad::sameUpper;
    if (name == "SAME_LOWER") return AutoPad::sameLower;
    if (name == "VALID") return AutoPad::valid;
    throw ModelError(fmt::format("auto_pad '{}' is unknown", name));
}

/// The window attributes of Conv and the pools.
struct WindowAttributes {
    std::vector<std::int64_t> kernel, strides, dilations, pads;
    AutoPad automatic = AutoPad::explicitPads;
    bool ceil = false;

    explicit WindowAttributes(const Attributes& attributes)
        : kernel(attributes.integers("kernel_shape").value_or(std::vector<std::int64_t>{})),
          strides(attributes.integers("strides").value_or(std::vector<std::int64_t>{})),
          dilations(attributes.integers("dilations").value_or(std::vector<std::int64_t>{})),
          pads(attributes.integers("pads").value_or(std::vector<std::int64_t>{})),
          automatic(autoPad(attributes.text("auto_pad", "NOTSET"))),
          ceil(attributes.integer("ceil_mode", 0) != 0) {}
};

struct Geometry {
    kernels::Window window;
    std::array<std::int64_t, 2> input{1, 1}, output{1, 1};
    Shape result;  // batch, channels (0 until known), spatial axes
};

/// `spatial` axes are those of x after batch and channels; a single one becomes the width.
Geometry geometryOf(const Shape& x, const WindowAttributes& attributes, const std::vector<std::int64_t>& kernel) {
    const std::size_t spatial = x.size() - 2;
    if (x.size() < 3 || spatial > 2) {
        throw KernelError(fmt::format("{} spatial axes are not supported (1 or 2 are)", static_cast<std::int64_t>(x.size()) - 2));
    }
    if (kernel.size() != spatial) throw ModelError(fmt::format("kernel {} does not fit input {}", toString(kernel), toString(x)));
    Geometry g;
    g.result = {x[0], 0};
    for (std::size_t i = 0; i < spatial; ++i) {
        const std::size_t at = i + 2 - spatial;
        const auto entry = [&](const std::vector<std::int64_t>& list, std::size_t index, std::int64_t fallback) {
            return list.empty() ? fallback : list.at(index);
        };
        const std::int64_t size = x[2 + i];
        const std::int64_t stride = entry(attributes.strides, i, 1);
        const std::int64_t dilation = entry(attributes.dilations, i, 1);
        const std::int64_t extent = (kernel[i] - 1) * dilation + 1;
        std::int64_t begin = 0;
        std::int64_t end = 0;
        std::int64_t output = 0;
        switch (attributes.automatic) {
            case AutoPad::explicitPads:
                begin = entry(attributes.pads, i, 0);
                end = entry(attributes.pads, i + spatial, 0);
                [[fallthrough]];
            case AutoPad::valid: {
                const std::int64_t room = size + begin + end - extent;
                output = (room + (attributes.ceil ? stride - 1 : 0)) / stride + 1;
                // A last window that starts inside the end padding counts nothing.
                if (attributes.ceil && (output - 1) * stride >= size + begin) --output;
                break;
            }
            case AutoPad::sameUpper:
            case AutoPad::sameLower: {
                output = (size + stride - 1) / stride;
                const std::int64_t pad = std::max<std::int64_t>(0, (output - 1) * stride + extent - size);
                begin = attributes.automatic == AutoPad::sameUpper ? pad / 2 : pad - pad / 2;
                end = pad - begin;
                break;
            }
        }
        if (output < 0) throw ModelError(fmt::format("a window of {} does not fit an axis of {}", extent, size));
        g.window.kernel[at] = kernel[i];
        g.window.stride[at] = stride;
        g.window.dilation[at] = dilation;
        g.window.padBegin[at] = begin;
        g.window.padEnd[at] = end;
        g.input[at] = size;
        g.output[at] = output;
        g.result.push_back(output);
    }
    return g;
}

Runner makeConv(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const std::int64_t groups = info.attributes.integer("group", 1);
    const auto activation = static_cast<kernels::Activation>(info.attributes.integer("tcompress.activation", 0));
    auto cache = info.constant(1) ? std::make_shared<std::shared_ptr<kernels::ConvolutionCache>>() : nullptr;
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& w = context.input(1);
        if (w.rank() != x.rank()) throw ModelError(fmt::format("weights {} do not fit input {}", toString(w.shape()), toString(x.shape())));
        Geometry g = geometryOf(x.shape(), attributes, {w.shape().begin() + 2, w.shape().end()});
        g.result[1] = w.shape()[0];
        if (w.shape()[1] * groups != x.shape()[1]) {
            throw ModelError(fmt::format("weights {} in {} groups do not fit input {}", toString(w.shape()), groups, toString(x.shape())));
        }
        kernels::Convolution params;
        params.batch = x.shape()[0];
        params.channels = x.shape()[1];
        params.outputs = w.shape()[0];
        params.groups = groups;
        params.input = g.input;
        params.output = g.output;
        params.window = g.window;
        params.x = x.data<float>().data();
        params.w = w.data<float>().data();
        params.bias = context.has(2) ? context.data<float>(2).data() : nullptr;
        params.activation = activation;
        params.y = context.output<float>(0, g.result).data();
        params.cache = cache.get();
        kernels::convolution(params);
    };
}

void runPooling(OpContext& context, const Geometry& g, kernels::PoolKind kind) {
    const Tensor& x = context.input(0);
    kernels::Pooling params;
    params.kind = kind;
    params.planes = x.shape()[0] * x.shape()[1];
    params.input = g.input;
    params.output = g.output;
    params.window = g.window;
    params.x = x.data<float>().data();
    params.y = context.output<float>(0, g.result).data();
    kernels::pooling(params);
}

Runner makePool(const NodeInfo& info, kernels::PoolKind kind) {
    const WindowAttributes attributes(info.attributes);
    return [attributes, kind](OpContext& context) {
        Geometry g = geometryOf(context.input(0).shape(), attributes, attributes.kernel);
        g.result[1] = context.input(0).shape()[1];
        runPooling(context, g, kind);
    };
}

Runner makeAveragePool(const NodeInfo& info) {
    return makePool(info, info.attributes.integer("count_include_pad", 0) ? kernels::PoolKind::averageIncludePad
                                                                          : kernels::PoolKind::averageExcludePad);
}

Runner makeMaxPool(const NodeInfo& info) {
    if (info.hasOutput(1)) throw KernelError("the output of indices is not supported");
    return makePool(info, kernels::PoolKind::max);
}

template <kernels::ReduceOp op>
Runner makeGlobalPool(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        std::vector<std::uint8_t> reduced(x.shape().size(), 1);
        Shape shape(x.shape().size(), 1);
        for (std::size_t i = 0; i < 2; ++i) {
            reduced.at(i) = 0;
            shape[i] = x.shape()[i];
        }
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            kernels::reduce<T>(op, x.data<T>().data(), x.shape(), reduced, context.output<T>(0, shape).data());
        });
    };
}

const OperatorRow kRows[] = {
    {"", "Conv", 1, makeConv, kFloatTypes, FloatSupport::float32},
    {"", "MaxPool", 1, makeMaxPool, kFloatTypes, FloatSupport::float32},
    {"", "AveragePool", 1, makeAveragePool, kFloatTypes, FloatSupport::float32},
    {"", "GlobalAveragePool", 1, makeGlobalPool<kernels::ReduceOp::mean>, kFloatTypes},
    {"", "GlobalMaxPool", 1, makeGlobalPool<kernels::ReduceOp::max>, kFloatTypes},
};

}  // namespace

std::span<const OperatorRow> convOperators() { return kRows; }

}  // namespace tcompress::exec
