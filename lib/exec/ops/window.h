#pragma once
// Sliding windows of convolutions and pools over any number of spatial axes.

#include "kernels/conv.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

enum class AutoPad { explicitPads, sameUpper, sameLower, valid };

/// The window attributes of Conv, ConvTranspose and the pools.
struct WindowAttributes {
    std::vector<std::int64_t> kernel, strides, dilations, pads;
    AutoPad automatic = AutoPad::explicitPads;
    bool ceil = false;

    explicit WindowAttributes(const Attributes& attributes);
};

/// By spatial axis.
struct WindowGeometry {
    std::vector<std::int64_t> kernel, stride, dilation, padBegin, padEnd, input, output;

    std::size_t axes() const { return kernel.size(); }
    std::int64_t kernelSize() const { return elementCount(kernel); }
    std::int64_t outputSize() const { return elementCount(output); }
    std::int64_t inputSize() const { return elementCount(input); }
    /// Offset in the input plane of element `tap` of the window at output position `position`; -1 in the padding.
    std::int64_t source(std::int64_t position, std::int64_t tap) const;
    /// As the kernels take it. Throws KernelError for more than two axes.
    kernels::Window kernelWindow() const;
};

/// x is [batch, channels, spatial…].
WindowGeometry windowGeometry(const Shape& x, const WindowAttributes& attributes, std::vector<std::int64_t> kernel);

/// {1, size} for one axis.
std::array<std::int64_t, 2> planeOf(const std::vector<std::int64_t>& spatial);
Shape resultShape(std::int64_t batch, std::int64_t channels, const std::vector<std::int64_t>& spatial);

}  // namespace tcompress::exec
