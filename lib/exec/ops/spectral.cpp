// Fourier transforms and what goes with them: DFT, STFT, MelWeightMatrix. Sums are float64 over a table of the n roots of unity:
// n² products for a line, which is little beside the models that begin with a spectrogram.

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "lib/exec/ops/support.h"
#include "lib/exec/ops/type_attribute.h"

namespace tcompress::exec {

namespace {

using Complex = std::complex<double>;

enum class Direction { forward, inverse };

/// y[k] = Σ_i x[i] · exp(∓2πj·k·i / n), divided by n for the inverse.
class FourierTransform {
  public:
    FourierTransform(std::int64_t length, Direction direction) : roots_(static_cast<std::size_t>(length)) {
        const double sign = direction == Direction::forward ? -1.0 : 1.0;
        for (std::size_t k = 0; k < roots_.size(); ++k) {
            roots_[k] = std::polar(1.0, sign * 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(length));
        }
        scale_ = direction == Direction::forward ? 1.0 : 1.0 / static_cast<double>(length);
    }
    std::size_t length() const { return roots_.size(); }
    Complex coefficient(const std::vector<Complex>& x, std::size_t k) const {
        Complex sum = 0;
        for (std::size_t i = 0, root = 0; i < x.size(); ++i) {
            sum += x[i] * roots_[root];
            root += k;
            if (root >= roots_.size()) root -= roots_.size();
        }
        return sum * scale_;
    }

  private:
    std::vector<Complex> roots_;
    double scale_ = 1;
};

/// Complex numbers along one axis; parts = 1 for real ones.
template <class T>
struct Line {
    T* data;
    std::int64_t stride;
    std::int64_t parts;

    Complex get(std::int64_t i) const {
        const T* at = data + i * stride;
        return {static_cast<double>(at[0]), parts == 2 ? static_cast<double>(at[1]) : 0.0};
    }
    void set(std::int64_t i, Complex value) const {
        data[i * stride] = static_cast<std::remove_const_t<T>>(value.real());
        if (parts == 2) data[i * stride + 1] = static_cast<std::remove_const_t<T>>(value.imag());
    }
};

std::int64_t partsOf(const Tensor& x) {
    if (x.rank() < 2 || x.shape().back() < 1 || x.shape().back() > 2) {
        throw ModelError(fmt::format("the last axis of a signal of shape {} has to hold 1 or 2 parts", toString(x.shape())));
    }
    return x.shape().back();
}

std::int64_t positive(std::int64_t length, std::string_view what) {
    if (length <= 0) throw ModelError(fmt::format("{} is {}", what, length));
    return length;
}

/// One-sided: a real signal has a spectrum of which n / 2 + 1 coefficients say everything; the inverse takes those back.
enum class Sides { both, one };

void runDft(OpContext& context, std::int64_t axisAttribute, Direction direction, Sides sides) {
    const Tensor& x = context.input(0);
    const std::int64_t parts = partsOf(x);
    const auto axis = static_cast<std::size_t>(normalizeAxis(axisAttribute, x.rank()));
    if (axis + 1 == x.shape().size()) throw ModelError("the axis of the complex parts cannot be transformed");
    const std::int64_t given = x.shape()[axis];
    const bool isHalfSpectrum = sides == Sides::one && direction == Direction::inverse;
    const std::int64_t length =
        positive(context.has(1) ? integerScalar(context.input(1)) : (isHalfSpectrum ? 2 * (given - 1) : given), "the length of the transform");
    const FourierTransform transform(length, direction);
    Shape shape = x.shape();
    shape[axis] = sides == Sides::one && direction == Direction::forward ? length / 2 + 1 : length;
    shape.back() = isHalfSpectrum ? 1 : 2;
    const std::int64_t inner = product(shape, axis + 1, shape.size() - 1);
    const std::int64_t lines = product(shape, 0, axis) * inner;
    const std::int64_t known = std::min(given, isHalfSpectrum ? length / 2 + 1 : length);
    visitFloat(x.dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        const T* source = x.data<T>().data();
        T* target = context.output<T>(0, shape).data();
        parallelFor(lines, [&](std::int64_t line) {
            const std::int64_t outer = line / inner;
            const Line<const T> from{source + (outer * given * inner + line % inner) * parts, inner * parts, parts};
            const Line<T> to{target + (outer * shape[axis] * inner + line % inner) * shape.back(), inner * shape.back(), shape.back()};
            std::vector<Complex> values(transform.length());
            for (std::int64_t i = 0; i < known; ++i) {
                const auto at = static_cast<std::size_t>(i);
                values[at] = from.get(i);
                if (isHalfSpectrum && i > 0 && 2 * i < length) values[values.size() - at] = std::conj(values[at]);
            }
            for (std::int64_t k = 0; k < shape[axis]; ++k) to.set(k, transform.coefficient(values, static_cast<std::size_t>(k)));
        });
    });
}

/// The axis is an attribute before opset 20 and an input since.
Runner makeDft(const NodeInfo& info) {
    const Direction direction = info.attributes.integer("inverse", 0) ? Direction::inverse : Direction::forward;
    const Sides sides = info.attributes.integer("onesided", 0) ? Sides::one : Sides::both;
    const std::int64_t fallback = info.version < 20 ? info.attributes.integer("axis", 1) : -2;
    return [=](OpContext& context) {
        runDft(context, context.has(2) ? integerScalar(context.input(2)) : fallback, direction, sides);
    };
}

/// Signal [batch, length, parts], frame step, [window], [frame length] → [batch, frames, coefficients, 2].
Runner makeStft(const NodeInfo& info) {
    const Sides sides = info.attributes.integer("onesided", 1) ? Sides::one : Sides::both;
    return [sides](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::int64_t parts = partsOf(x);
        if (x.rank() != 3) throw ModelError(fmt::format("a signal of shape {} has no batch and length", toString(x.shape())));
        const std::int64_t batch = x.shape()[0];
        const std::int64_t total = x.shape()[1];
        const std::int64_t step = positive(integerScalar(context.input(1)), "the step between frames");
        const Tensor* window = context.optionalInput(2);
        const std::int64_t length =
            positive(context.has(3) ? integerScalar(context.input(3)) : (window ? window->size() : total), "the length of a frame");
        if (length > total || (window && window->size() != length)) {
            throw ModelError(fmt::format("frames of {} do not fit a signal of {} and a window of {}", length, total, window ? window->size() : length));
        }
        const std::int64_t frames = (total - length) / step + 1;
        const std::int64_t bins = sides == Sides::one ? length / 2 + 1 : length;
        const FourierTransform transform(length, Direction::forward);
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const T* source = x.data<T>().data();
            const T* weights = window ? window->data<T>().data() : nullptr;
            T* target = context.output<T>(0, {batch, frames, bins, 2}).data();
            parallelFor(batch * frames, [&](std::int64_t frame) {
                const std::int64_t start = frame / frames * total + frame % frames * step;
                const Line<const T> from{source + start * parts, parts, parts};
                std::vector<Complex> values(transform.length());
                for (std::int64_t i = 0; i < length; ++i) {
                    values[static_cast<std::size_t>(i)] = from.get(i) * (weights ? static_cast<double>(weights[i]) : 1.0);
                }
                const Line<T> to{target + frame * bins * 2, 2, 2};
                for (std::int64_t k = 0; k < bins; ++k) to.set(k, transform.coefficient(values, static_cast<std::size_t>(k)));
            });
        });
    };
}

/// Triangles of height 1 whose corners are equally spaced on the mel scale, mel(f) = 2595 · log10(1 + f / 700), and rounded down
/// to coefficients of the transform.
Runner makeMelWeightMatrix(const NodeInfo& info) {
    const auto type = typeAttribute(info.attributes, "output_datatype", DType::float32);
    return [type](OpContext& context) {
        const std::int64_t bands = positive(integerScalar(context.input(0)), "the number of bands");
        const std::int64_t length = positive(integerScalar(context.input(1)), "the length of the transform");
        const std::int64_t rate = positive(integerScalar(context.input(2)), "the sample rate");
        const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
        const double low = mel(realScalar(context.input(3)));
        const double step = (mel(realScalar(context.input(4))) - low) / static_cast<double>(bands + 2);
        const std::int64_t bins = length / 2 + 1;
        const auto corner = [&](std::int64_t i) {
            const double hertz = 700 * (std::pow(10, (low + static_cast<double>(i) * step) / 2595) - 1);
            const auto bin = static_cast<std::int64_t>(std::floor(static_cast<double>(length + 1) * hertz / static_cast<double>(rate)));
            if (bin < 0 || bin >= bins) throw ModelError(fmt::format("a corner at {} Hz lies outside the spectrum", hertz));
            return bin;
        };
        Tensor weights(DType::float32, {bins, bands});
        float* y = weights.mutableData<float>().data();
        for (std::int64_t band = 0; band < bands; ++band) {
            const std::int64_t begin = corner(band);
            const std::int64_t peak = corner(band + 1);
            const std::int64_t end = corner(band + 2);
            for (std::int64_t i = begin; i < peak; ++i) y[i * bands + band] = static_cast<float>(i - begin) / static_cast<float>(peak - begin);
            y[peak * bands + band] = 1;
            for (std::int64_t i = peak + 1; i < end; ++i) y[i * bands + band] = static_cast<float>(end - i) / static_cast<float>(end - peak);
        }
        context.setOutput(0, convert(weights, type));
    };
}

const OperatorRow kRows[] = {
    {"", "DFT", 17, makeDft, kFloatTypes},
    {"", "STFT", 17, makeStft, kFloatTypes},
    {"", "MelWeightMatrix", 17, makeMelWeightMatrix, TypeSet{DType::int32, DType::int64}, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> spectralOperators() { return kRows; }

}  // namespace tcompress::exec
