// Patches of images: Col2Im adds them up to an image, DeformConv reads them at learnt places.

#include <algorithm>
#include <cmath>

#include "lib/exec/ops/window.h"

namespace tcompress::exec {

namespace {

/// Columns [batch, channels · taps, positions] of the windows of an image, added up where windows overlap. Inputs columns, shape
/// of the image, shape of the window.
Runner makeCol2Im(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::vector<std::int64_t> kernel = integers(context.input(2));
        const std::int64_t taps = elementCount(kernel);
        if (x.rank() != 3 || taps <= 0 || x.shape()[1] % taps != 0) {
            throw ModelError(fmt::format("columns of shape {} do not hold windows of {}", toString(x.shape()), toString(kernel)));
        }
        const Shape shape = resultShape(x.shape()[0], x.shape()[1] / taps, integers(context.input(1)));
        const WindowGeometry g = windowGeometry(shape, attributes, kernel);
        const std::int64_t positions = g.outputSize();
        if (x.shape()[2] != positions) throw ModelError(fmt::format("{} columns for {} positions", x.shape()[2], positions));
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const T* columns = x.data<T>().data();
            T* image = context.output<T>(0, shape).data();
            parallelFor(shape[0] * shape[1], [&](std::int64_t plane) {
                T* y = image + plane * g.inputSize();
                std::fill_n(y, g.inputSize(), T(0));
                for (std::int64_t i = 0; i < taps * positions; ++i) {
                    const std::int64_t at = g.source(i % positions, i / positions);
                    if (at >= 0) y[at] = static_cast<T>(y[at] + columns[plane * taps * positions + i]);
                }
            });
        });
    };
}

/// Between the four pixels around (y, x); pixels outside count as 0.
float bilinear(const float* plane, std::int64_t height, std::int64_t width, float y, float x) {
    if (!(y > -1 && x > -1 && y < static_cast<float>(height) && x < static_cast<float>(width))) return 0;
    const auto top = static_cast<std::int64_t>(std::floor(y));
    const auto left = static_cast<std::int64_t>(std::floor(x));
    const float dy = y - static_cast<float>(top);
    const float dx = x - static_cast<float>(left);
    const auto at = [&](std::int64_t row, std::int64_t column) {
        return row < 0 || column < 0 || row >= height || column >= width ? 0.0F : plane[row * width + column];
    };
    return (1 - dy) * ((1 - dx) * at(top, left) + dx * at(top, left + 1)) + dy * ((1 - dx) * at(top + 1, left) + dx * at(top + 1, left + 1));
}

/// Convolution of two spatial axes whose taps are moved by offsets and weighted by a mask (Dai et al., 2017; Zhu et al., 2019).
/// Inputs x [batch, channels, height, width], weights, offsets [batch, offset groups · taps · 2, rows, columns], [bias],
/// [mask, offset groups · taps].
Runner makeDeformConv(const NodeInfo& info) {
    const WindowAttributes attributes(info.attributes);
    const std::int64_t groups = info.attributes.integer("group", 1);
    const std::int64_t offsetGroups = info.attributes.integer("offset_group", 1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& w = context.input(1);
        const Tensor& offset = context.input(2);
        const Tensor* bias = context.optionalInput(3);
        const Tensor* mask = context.optionalInput(4);
        if (x.rank() != 4 || w.rank() != 4) throw KernelError("only two spatial axes are supported");
        const WindowGeometry g = windowGeometry(x.shape(), attributes, {w.shape()[2], w.shape()[3]});
        const std::int64_t batch = x.shape()[0], channels = x.shape()[1], outputs = w.shape()[0];
        const std::int64_t height = x.shape()[2], width = x.shape()[3];
        const std::int64_t taps = g.kernelSize(), positions = g.outputSize();
        const auto fits = [&](const Tensor& tensor, std::int64_t perTap) {
            return tensor.shape() == resultShape(batch, offsetGroups * taps * perTap, g.output);
        };
        if (groups <= 0 || offsetGroups <= 0 || channels % groups != 0 || channels % offsetGroups != 0 || outputs % groups != 0 ||
            w.shape()[1] != channels / groups || !fits(offset, 2) || (mask && !fits(*mask, 1)) || (bias && bias->shape() != Shape{outputs})) {
            throw ModelError(fmt::format("weights of shape {} and offsets of {} do not fit an image of {}", toString(w.shape()),
                                         toString(offset.shape()), toString(x.shape())));
        }
        float* y = context.output<float>(0, resultShape(batch, outputs, g.output)).data();
        const std::int64_t inGroup = channels / groups;
        parallelFor(batch * positions, [&](std::int64_t i) {
            const std::int64_t b = i / positions, position = i % positions;
            std::vector<float> patch(static_cast<std::size_t>(channels * taps));
            for (std::int64_t k = 0; k < channels * taps; ++k) {
                const std::int64_t channel = k / taps, tap = k % taps;
                const std::int64_t moved = (b * offsetGroups + channel / (channels / offsetGroups)) * taps + tap;
                const float* move = offset.data<float>().data() + moved * 2 * positions + position;
                const auto base = [&](std::size_t axis, std::int64_t at, std::int64_t element) {
                    return static_cast<float>(at * g.stride[axis] - g.padBegin[axis] + element * g.dilation[axis]);
                };
                const float row = base(0, position / g.output[1], tap / g.kernel[1]) + move[0];
                const float column = base(1, position % g.output[1], tap % g.kernel[1]) + move[positions];
                const float weight = mask ? mask->data<float>()[static_cast<std::size_t>(moved * positions + position)] : 1.0F;
                patch[static_cast<std::size_t>(k)] = weight * bilinear(x.data<float>().data() + (b * channels + channel) * height * width, height, width, row, column);
            }
            for (std::int64_t o = 0; o < outputs; ++o) {
                const float* weights = w.data<float>().data() + o * inGroup * taps;
                const float* from = patch.data() + o / (outputs / groups) * inGroup * taps;
                float sum = bias ? bias->data<float>()[static_cast<std::size_t>(o)] : 0.0F;
                for (std::int64_t k = 0; k < inGroup * taps; ++k) sum += weights[k] * from[k];
                y[(b * outputs + o) * positions + position] = sum;
            }
        });
    };
}

const OperatorRow kRows[] = {
    {"", "Col2Im", 18, makeCol2Im, kNumericTypes},
    {"", "DeformConv", 19, makeDeformConv, kFloatTypes, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> patchOperators() { return kRows; }

}  // namespace tcompress::exec
