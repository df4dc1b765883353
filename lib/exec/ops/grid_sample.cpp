// GridSample: reads an image (of any number of spatial axes) at given, not whole, positions.

#include <array>
#include <algorithm>
#include <cmath>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

enum class Interpolation { nearest, linear, cubic };
enum class Padding { zeros, border, reflection };

/// One spatial axis: positions of pixels are 0 … size - 1, `low` and `high` are the image's edges.
struct Axis {
    std::int64_t size;
    double low, high;
};

Axis axisOf(std::int64_t size, bool alignCorners) {
    const auto last = static_cast<double>(size - 1);
    return alignCorners ? Axis{size, 0, last} : Axis{size, -0.5, last + 0.5};
}

double reflected(double x, const Axis& axis) {
    const double range = axis.high - axis.low;
    if (range <= 0) return axis.low;
    const double turn = std::fmod(std::abs(x - axis.low), 2 * range);
    return axis.low + (turn <= range ? turn : 2 * range - turn);
}

/// The pixel that stands for position `i`; -1: none, it counts as 0.
std::int64_t pixel(std::int64_t i, const Axis& axis, Padding padding) {
    if (i >= 0 && i < axis.size) return i;
    if (padding == Padding::zeros) return -1;
    if (padding == Padding::reflection) i = static_cast<std::int64_t>(reflected(static_cast<double>(i), axis));
    return std::clamp<std::int64_t>(i, 0, axis.size - 1);
}

/// Pixels and weights that a position mixes along one axis.
struct Taps {
    int count = 0;
    std::array<std::int64_t, 4> pixels{};
    std::array<double, 4> weights{};

    void add(std::int64_t pixel, double weight) {
        pixels[static_cast<std::size_t>(count)] = pixel;
        weights[static_cast<std::size_t>(count++)] = weight;
    }
};

/// Keys, Cubic convolution interpolation (1981), with a = -0.75 as PyTorch has it.
double cubicWeight(double distance) {
    constexpr double a = -0.75;
    const double d = std::abs(distance);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/// `normalized`: -1 and 1 are the edges.
Taps tapsOf(double normalized, const Axis& axis, Interpolation interpolation, Padding padding) {
    double x = axis.low + (normalized + 1) / 2 * (axis.high - axis.low);
    if (interpolation == Interpolation::nearest) x = std::nearbyint(x);
    if (x < axis.low || x > axis.high) {
        if (padding == Padding::border) x = std::clamp(x, 0.0, static_cast<double>(axis.size - 1));
        if (padding == Padding::reflection) x = reflected(x, axis);
    }
    Taps taps;
    // Far outside (or NaN) nothing is near; the conversion to integers below needs a bound.
    if (!(std::abs(x) < 1e15)) return taps;
    const double floor = std::floor(x);
    const auto first = static_cast<std::int64_t>(floor);
    switch (interpolation) {
        case Interpolation::nearest: taps.add(pixel(first, axis, padding), 1); break;
        case Interpolation::linear:
            taps.add(pixel(first, axis, padding), 1 - (x - floor));
            taps.add(pixel(first + 1, axis, padding), x - floor);
            break;
        case Interpolation::cubic:
            for (int k = -1; k <= 2; ++k) taps.add(pixel(first + k, axis, padding), cubicWeight(x - floor - k));
            break;
    }
    return taps;
}

/// Σ over the taps of the axes from `axis` on.
template <class T>
double mix(const T* image, const std::vector<Taps>& taps, const std::vector<Axis>& axes, std::size_t axis) {
    if (axis == axes.size()) return static_cast<double>(*image);
    std::int64_t stride = 1;
    for (std::size_t i = axis + 1; i < axes.size(); ++i) stride *= axes[i].size;
    double sum = 0;
    for (std::size_t k = 0; k < static_cast<std::size_t>(taps[axis].count); ++k) {
        const std::int64_t at = taps[axis].pixels[k];
        if (at >= 0) sum += taps[axis].weights[k] * mix(image + at * stride, taps, axes, axis + 1);
    }
    return sum;
}

Interpolation interpolationOf(const std::string& mode) {
    if (mode == "linear" || mode == "bilinear") return Interpolation::linear;
    if (mode == "cubic" || mode == "bicubic") return Interpolation::cubic;
    if (mode == "nearest") return Interpolation::nearest;
    throw ModelError(fmt::format("unknown mode '{}'", mode));
}

Padding paddingOf(const std::string& mode) {
    if (mode == "zeros") return Padding::zeros;
    if (mode == "border") return Padding::border;
    if (mode == "reflection") return Padding::reflection;
    throw ModelError(fmt::format("unknown padding_mode '{}'", mode));
}

/// Image [batch, channels, spatial …], grid [batch, positions …, axes] whose last axis counts the spatial axes from the last one.
Runner makeGridSample(const NodeInfo& info) {
    const Interpolation interpolation = interpolationOf(info.attributes.text("mode", "linear"));
    const Padding padding = paddingOf(info.attributes.text("padding_mode", "zeros"));
    const bool alignCorners = info.attributes.integer("align_corners", 0) != 0;
    return [=](OpContext& context) {
        const DType type = context.input(0).dtype();
        const bool isFloat = type == DType::float32 || type == DType::float64;
        const Tensor x = isFloat ? context.input(0) : convert(context.input(0), DType::float64);
        const Tensor grid = convert(context.input(1), x.dtype());
        const std::int64_t rank = x.rank() - 2;
        if (rank < 1 || x.size() == 0 || grid.rank() != rank + 2 || grid.shape().back() != rank || grid.shape()[0] != x.shape()[0]) {
            throw ModelError(fmt::format("a grid of shape {} does not fit an image of {}", toString(grid.shape()), toString(x.shape())));
        }
        std::vector<Axis> axes;
        for (std::size_t i = 2; i < x.shape().size(); ++i) axes.push_back(axisOf(x.shape()[i], alignCorners));
        const std::int64_t channels = x.shape()[1];
        const std::int64_t pixels = product(x.shape(), 2, x.shape().size());
        const std::int64_t positions = product(grid.shape(), 1, grid.shape().size() - 1);
        Shape shape{x.shape()[0], channels};
        shape.insert(shape.end(), grid.shape().begin() + 1, grid.shape().end() - 1);
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const T* image = x.data<T>().data();
            const T* coordinates = grid.data<T>().data();
            T* y = context.output<T>(0, shape).data();
            parallelFor(shape[0] * positions, [&](std::int64_t i) {
                const std::int64_t batch = i / positions;
                std::vector<Taps> taps;
                for (std::size_t axis = 0; axis < axes.size(); ++axis) {
                    const auto at = static_cast<double>(coordinates[(i + 1) * rank - 1 - static_cast<std::int64_t>(axis)]);
                    taps.push_back(tapsOf(at, axes[axis], interpolation, padding));
                }
                for (std::int64_t c = 0; c < channels; ++c) {
                    const std::int64_t plane = batch * channels + c;
                    y[plane * positions + i % positions] = static_cast<T>(mix(image + plane * pixels, taps, axes, 0));
                }
            });
        });
        if (!isFloat) context.setOutput(0, convert(context.outputTensor(0), type));
    };
}

const OperatorRow kRows[] = {
    {"", "GridSample", 16, makeGridSample, kLogicTypes},
};

}  // namespace

std::span<const OperatorRow> gridSampleOperators() { return kRows; }

}  // namespace tcompress::exec
