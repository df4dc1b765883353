#include "lib/exec/ops/window.h"

#include <algorithm>

namespace tcompress::exec {

namespace {

AutoPad autoPad(const std::string& name) {
    if (name == "NOTSET") return AutoPad::explicitPads;
    if (name == "SAME_UPPER") return AutoPad::sameUpper;
    if (name == "SAME_LOWER") return AutoPad::sameLower;
    if (name == "VALID") return AutoPad::valid;
    throw ModelError(fmt::format("auto_pad '{}' is unknown", name));
}

}  // namespace

WindowAttributes::WindowAttributes(const Attributes& attributes)
    : kernel(attributes.integers("kernel_shape").value_or(std::vector<std::int64_t>{})),
      strides(attributes.integers("strides").value_or(std::vector<std::int64_t>{})),
      dilations(attributes.integers("dilations").value_or(std::vector<std::int64_t>{})),
      pads(attributes.integers("pads").value_or(std::vector<std::int64_t>{})),
      automatic(autoPad(attributes.text("auto_pad", "NOTSET"))),
      ceil(attributes.integer("ceil_mode", 0) != 0) {}

WindowGeometry windowGeometry(const Shape& x, const WindowAttributes& attributes, std::vector<std::int64_t> kernel) {
    const std::size_t spatial = x.size() < 2 ? 0 : x.size() - 2;
    if (spatial == 0 || kernel.size() != spatial) {
        throw ModelError(fmt::format("kernel {} does not fit input {}", toString(kernel), toString(x)));
    }
    WindowGeometry g;
    const auto entry = [](const std::vector<std::int64_t>& list, std::size_t i, std::int64_t fallback) {
        return list.empty() ? fallback : list.at(i);
    };
    for (std::size_t i = 0; i < spatial; ++i) {
        const std::int64_t size = x[2 + i];
        const std::int64_t stride = entry(attributes.strides, i, 1);
        const std::int64_t dilation = entry(attributes.dilations, i, 1);
        constexpr std::int64_t kLargest = std::int64_t{1} << 24;  // beyond any image; keeps the products below from running over
        const auto isSize = [](std::int64_t value) { return value > 0 && value <= kLargest; };
        if (size < 0 || size > kLargest * kLargest) throw ModelError(fmt::format("a window over an axis of {}", size));
        if (!isSize(kernel[i]) || !isSize(stride) || !isSize(dilation)) {
            throw ModelError(fmt::format("a window of {} with stride {} and dilation {}", kernel[i], stride, dilation));
        }
        const std::int64_t extent = (kernel[i] - 1) * dilation + 1;
        std::int64_t begin = 0;
        std::int64_t end = 0;
        std::int64_t output = 0;
        if (attributes.automatic == AutoPad::sameUpper || attributes.automatic == AutoPad::sameLower) {
            output = (size + stride - 1) / stride;
            const std::int64_t pad = std::max<std::int64_t>(0, (output - 1) * stride + extent - size);
            if (pad >= extent && size > 0) throw ModelError(fmt::format("a window of {} lies wholly outside an axis of {}", extent, size));
            begin = attributes.automatic == AutoPad::sameUpper ? pad / 2 : pad - pad / 2;
            end = pad - begin;
        } else {
            if (attributes.automatic == AutoPad::explicitPads) {
                begin = entry(attributes.pads, i, 0);
                end = entry(attributes.pads, i + spatial, 0);
                if (begin < 0 || end < 0 || begin > kLargest || end > kLargest) throw ModelError(fmt::format("pads of {} and {}", begin, end));
            }
            const std::int64_t room = size + begin + end - extent;
            output = room < 0 ? 0 : (room + (attributes.ceil ? stride - 1 : 0)) / stride + 1;
            // A last window that starts inside the end padding counts nothing.
            if (attributes.ceil && (output - 1) * stride >= size + begin) --output;
        }
        if (output <= 0 && size > 0) throw ModelError(fmt::format("a window of {} does not fit an axis of {}", extent, size));
        g.stride.push_back(stride);
        g.dilation.push_back(dilation);
        g.padBegin.push_back(begin);
        g.padEnd.push_back(end);
        g.input.push_back(size);
        g.output.push_back(output);
    }
    g.kernel = std::move(kernel);
    return g;
}

std::int64_t WindowGeometry::source(std::int64_t position, std::int64_t tap) const {
    std::int64_t offset = 0;
    std::int64_t stepSize = 1;
    for (std::size_t i = axes(); i-- > 0;) {
        const std::int64_t at = position % output[i] * stride[i] - padBegin[i] + tap % kernel[i] * dilation[i];
        position /= output[i];
        tap /= kernel[i];
        if (at < 0 || at >= input[i]) return -1;
        offset += at * stepSize;
        stepSize *= input[i];
    }
    return offset;
}

std::array<std::int64_t, 2> planeOf(const std::vector<std::int64_t>& spatial) {
    return spatial.size() == 1 ? std::array<std::int64_t, 2>{1, spatial[0]} : std::array<std::int64_t, 2>{spatial.at(0), spatial.at(1)};
}

kernels::Window WindowGeometry::kernelWindow() const {
    if (axes() > 2) throw KernelError(fmt::format("{} spatial axes are not supported (1 or 2 are)", axes()));
    kernels::Window window;
    const std::size_t lead = 2 - axes();
    for (std::size_t i = 0; i < axes(); ++i) {
        window.kernel[lead + i] = kernel[i];
        window.stride[lead + i] = stride[i];
        window.dilation[lead + i] = dilation[i];
        window.padBegin[lead + i] = padBegin[i];
        window.padEnd[lead + i] = padEnd[i];
    }
    return window;
}

Shape resultShape(std::int64_t batch, std::int64_t channels, const std::vector<std::int64_t>& spatial) {
    Shape shape{batch, channels};
    shape.insert(shape.end(), spatial.begin(), spatial.end());
    return shape;
}

}  // namespace tcompress::exec
