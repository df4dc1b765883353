// Resize and Upsample: axis by axis, each output position is a weighted sum of positions of the input (separable).

#include <algorithm>
#include <cmath>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

enum class Mode { nearest, linear, cubic };

struct Options {
    Mode mode = Mode::nearest;
    std::string coordinates;  // coordinate_transformation_mode
    std::string rounding;     // nearest_mode
    std::string aspect;       // keep_aspect_ratio_policy
    float cubic = -0.75F;
    float extrapolation = 0;
    bool excludeOutside = false;
    bool antialias = false;
    std::optional<std::vector<std::int64_t>> axes;
};

/// One axis of the resize.
struct Axis {
    std::int64_t input = 1, output = 1;
    double scale = 1;
    double from = 0, to = 1;  // region of interest
};

double inputPosition(const Options& options, const Axis& axis, std::int64_t i) {
    const auto x = static_cast<double>(i);
    const auto in = static_cast<double>(axis.input);
    const double out = in * axis.scale;  // not rounded down
    if (options.coordinates == "align_corners") return axis.output == 1 ? 0.0 : x * (in - 1) / (out - 1);
    if (options.coordinates == "asymmetric") return x / axis.scale;
    if (options.coordinates == "pytorch_half_pixel") return axis.output > 1 ? (x + 0.5) / axis.scale - 0.5 : 0.0;
    if (options.coordinates == "tf_half_pixel_for_nn") return (x + 0.5) / axis.scale;
    if (options.coordinates == "tf_crop_and_resize") {
        return axis.output > 1 ? axis.from * (in - 1) + x * (axis.to - axis.from) * (in - 1) / (static_cast<double>(axis.output) - 1)
                               : 0.5 * (axis.from + axis.to) * (in - 1);
    }
    if (options.coordinates == "half_pixel_symmetric") {
        const double adjustment = static_cast<double>(axis.output) / out;
        return in / 2 * (1 - adjustment) + (x + 0.5) / axis.scale - 0.5;
    }
    return (x + 0.5) / axis.scale - 0.5;
}

std::int64_t nearestIndex(const std::string& rounding, double x) {
    if (rounding == "round_prefer_ceil") return static_cast<std::int64_t>(std::floor(x + 0.5));
    if (rounding == "floor") return static_cast<std::int64_t>(std::floor(x));
    if (rounding == "ceil") return static_cast<std::int64_t>(std::ceil(x));
    return static_cast<std::int64_t>(std::ceil(x - 0.5));  // round_prefer_floor
}

double cubicWeight(double a, double distance) {
    const double d = std::abs(distance);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    return 0;
}

struct Weights {
    std::vector<std::int64_t> positions;
    std::vector<double> values;
    bool outside = false;  // the extrapolation value instead
};

/// Keys (1981) for cubic; with antialiasing the filter is stretched by 1 / scale when it shrinks.
Weights weightsAt(const Options& options, const Axis& axis, std::int64_t i) {
    Weights weights;
    const double x = inputPosition(options, axis, i);
    const auto last = axis.input - 1;
    if (options.coordinates == "tf_crop_and_resize" && !(x >= 0 && x <= static_cast<double>(last))) {  // nor is NaN inside
        weights.outside = true;
        return weights;
    }
    if (options.mode == Mode::nearest) {
        weights.positions = {std::clamp<std::int64_t>(nearestIndex(options.rounding, x), 0, last)};
        weights.values = {1};
        return weights;
    }
    const double stretch = options.antialias && axis.scale < 1 ? axis.scale : 1;
    const double reach = (options.mode == Mode::linear ? 1 : 2) / stretch;
    const auto begin = static_cast<std::int64_t>(std::floor(x - reach)) + 1;
    const auto end = static_cast<std::int64_t>(std::ceil(x + reach)) - 1;
    double sum = 0;
    for (std::int64_t p = std::min(begin, static_cast<std::int64_t>(std::floor(x))); p <= std::max(end, static_cast<std::int64_t>(std::floor(x))); ++p) {
        const double distance = (x - static_cast<double>(p)) * stretch;
        double weight = options.mode == Mode::linear ? std::max(0.0, 1 - std::abs(distance)) : cubicWeight(options.cubic, distance);
        if (options.excludeOutside && (p < 0 || p > last)) weight = 0;
        weights.positions.push_back(std::clamp<std::int64_t>(p, 0, last));
        weights.values.push_back(weight);
        sum += weight;
    }
    if (sum != 0) {
        for (double& value : weights.values) value /= sum;
    }
    return weights;
}

void resizeAxis(const Options& options, const Axis& axis, std::int64_t outer, std::int64_t inner, const std::vector<double>& x,
                std::vector<double>& y) {
    if (axis.input == 0 && axis.output > 0) throw ModelError("an axis without elements cannot be resized");
    y.assign(static_cast<std::size_t>(outer * axis.output * inner), 0);
    for (std::int64_t i = 0; i < axis.output; ++i) {
        const Weights weights = weightsAt(options, axis, i);
        for (std::int64_t o = 0; o < outer; ++o) {
            double* target = y.data() + (o * axis.output + i) * inner;
            if (weights.outside) std::fill_n(target, inner, options.extrapolation);
            for (std::size_t w = 0; w < weights.positions.size(); ++w) {
                const double* source = x.data() + (o * axis.input + weights.positions[w]) * inner;
                for (std::int64_t k = 0; k < inner; ++k) target[k] += weights.values[w] * source[k];
            }
        }
    }
}

/// The axes from scales or sizes, for the axes that are named.
std::vector<Axis> axesOf(const Options& options, const Shape& shape, const Tensor* roi, const Tensor* scales, const Tensor* sizes) {
    std::vector<Axis> axes(shape.size());
    std::vector<std::int64_t> named;
    for (std::size_t i = 0; i < shape.size(); ++i) {
        axes[i].input = axes[i].output = shape[i];
        named.push_back(static_cast<std::int64_t>(i));
    }
    if (options.axes) named = normalizeAxes(*options.axes, static_cast<std::int64_t>(shape.size()));
    if (sizes && sizes->size() > 0) {
        std::vector<std::int64_t> wanted = integers(*sizes);
        double common = 0;
        if (options.aspect != "stretch") {
            for (std::size_t i = 0; i < named.size(); ++i) {
                const double ratio = static_cast<double>(wanted.at(i)) / static_cast<double>(shape[static_cast<std::size_t>(named[i])]);
                common = i == 0 ? ratio : (options.aspect == "not_larger" ? std::min(common, ratio) : std::max(common, ratio));
            }
        }
        for (std::size_t i = 0; i < named.size(); ++i) {
            Axis& axis = axes[static_cast<std::size_t>(named[i])];
            const auto input = static_cast<double>(axis.input);
            axis.output = common > 0 ? static_cast<std::int64_t>(std::floor(common * input + 0.5)) : wanted.at(i);
            axis.scale = common > 0 ? common : static_cast<double>(axis.output) / input;
        }
    } else if (scales) {
        const std::vector<float> factors = toFloat32(*scales);
        for (std::size_t i = 0; i < named.size(); ++i) {
            Axis& axis = axes[static_cast<std::size_t>(named[i])];
            axis.scale = factors.at(i);
            axis.output = static_cast<std::int64_t>(std::floor(static_cast<double>(axis.input) * axis.scale));
        }
    } else {
        throw ModelError("neither scales nor sizes are given");
    }
    if (options.coordinates == "tf_crop_and_resize" && roi) {
        const std::vector<float> region = toFloat32(*roi);
        for (std::size_t i = 0; i < named.size(); ++i) {
            Axis& axis = axes[static_cast<std::size_t>(named[i])];
            axis.from = region.at(i);
            axis.to = region.at(named.size() + i);
        }
    }
    Shape resized;
    for (const Axis& axis : axes) resized.push_back(axis.output);
    if (elementCount(resized) > (std::int64_t{1} << 40)) throw ModelError(fmt::format("a result of shape {}", toString(resized)));
    return axes;
}

void runResize(OpContext& context, const Options& options, const std::vector<Axis>& axes) {
    const Tensor& x = context.input(0);
    const Tensor wide = convert(x, DType::float64);
    std::vector<double> values(wide.data<double>().begin(), wide.data<double>().end());
    Shape shape = x.shape();
    for (std::size_t i = 0; i < axes.size(); ++i) {
        if (axes[i].output == axes[i].input && axes[i].scale == 1 && options.coordinates != "tf_crop_and_resize") continue;
        std::vector<double> resized;
        resizeAxis(options, axes[i], product(shape, 0, i), product(shape, i + 1, shape.size()), values, resized);
        values = std::move(resized);
        shape[i] = axes[i].output;
    }
    context.setOutput(0, convert(Tensor::of<double>(shape, values), x.dtype()));
}

Mode modeOf(const std::string& name) {
    if (name == "nearest") return Mode::nearest;
    if (name == "linear" || name == "bilinear") return Mode::linear;
    if (name == "cubic") return Mode::cubic;
    throw ModelError(fmt::format("resize mode '{}' is unknown", name));
}

Runner makeResize(const NodeInfo& info) {
    Options options;
    const Attributes& attributes = info.attributes;
    options.mode = modeOf(attributes.text("mode", "nearest"));
    options.coordinates = info.version < 11 ? "asymmetric" : attributes.text("coordinate_transformation_mode", "half_pixel");
    options.rounding = info.version < 11 ? "floor" : attributes.text("nearest_mode", "round_prefer_floor");
    options.aspect = attributes.text("keep_aspect_ratio_policy", "stretch");
    options.cubic = attributes.real("cubic_coeff_a", -0.75F);
    options.extrapolation = attributes.real("extrapolation_value", 0);
    options.excludeOutside = attributes.integer("exclude_outside", 0) != 0;
    options.antialias = attributes.integer("antialias", 0) != 0;
    options.axes = attributes.integers("axes");
    if (info.version < 11) {  // inputs x, scales
        return [options](OpContext& context) {
            runResize(context, options, axesOf(options, context.input(0).shape(), nullptr, &context.input(1), nullptr));
        };
    }
    return [options](OpContext& context) {
        const Tensor* scales = context.optionalInput(2);
        runResize(context, options,
                  axesOf(options, context.input(0).shape(), context.optionalInput(1), scales && scales->size() > 0 ? scales : nullptr,
                         context.optionalInput(3)));
    };
}

const OperatorRow kRows[] = {
    {"", "Resize", 10, makeResize, kLogicTypes, FloatSupport::all},
    {"", "Upsample", 9, makeResize, kLogicTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> resizeOperators() { return kRows; }

}  // namespace tcompress::exec
