#include "kernels/activation.h"

#include "kernels/native/vector_math.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kGrain = 16384;

TCOMPRESS_MULTIVERSION void activateRange(Activation activation, const float* x, float* y,
                                          std::int64_t count) {
    dispatchActivation(
        activation, [&]<Activation kActivation>() __attribute__((always_inline)) {
            mapVectors(
                x, y, count,
                [](FloatVector v) __attribute__((always_inline)) { return activateVector<kActivation>(v); });
        });
}

/// ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|).
TCOMPRESS_INLINE FloatVector softplusVector(FloatVector x) {
    return maxVector(x, 0.0F) + logVector(1.0F + expVector(-absVector(x)));
}

TCOMPRESS_MULTIVERSION void applyRange(RealFunction function, const float* x, float* y, std::int64_t count) {
#define TCOMPRESS_MAP(vectorFunction) \
    mapVectors(                       \
        x, y, count, [](FloatVector v) __attribute__((always_inline)) { return vectorFunction(v); })
    switch (function) {
        case RealFunction::exp:
            TCOMPRESS_MAP(expVector);
            break;
        case RealFunction::log:
            TCOMPRESS_MAP(logVector);
            break;
        case RealFunction::tanh:
            TCOMPRESS_MAP(tanhVector);
            break;
        case RealFunction::sigmoid:
            TCOMPRESS_MAP(sigmoidVector);
            break;
        case RealFunction::erf:
            TCOMPRESS_MAP(erfVector);
            break;
        case RealFunction::softplus:
            TCOMPRESS_MAP(softplusVector);
            break;
    }
#undef TCOMPRESS_MAP
}

}  // namespace

std::string_view name(Activation activation) {
    switch (activation) {
        case Activation::none:
            return "none";
        case Activation::relu:
            return "relu";
        case Activation::geluErf:
            return "gelu-erf";
        case Activation::geluTanh:
            return "gelu-tanh";
        case Activation::silu:
            return "silu";
        case Activation::quickGelu:
            return "quick-gelu";
        case Activation::tanh:
            return "tanh";
        case Activation::sigmoid:
            return "sigmoid";
    }
    return "unknown";
}

void activate(Activation activation, std::span<const float> x, std::span<float> y) {
    TCOMPRESS_CHECK(x.size() == y.size(), "activate: sizes differ");
    parallelRanges(static_cast<std::int64_t>(x.size()), kGrain, [&](std::int64_t begin, std::int64_t end) {
        activateRange(activation, x.data() + begin, y.data() + begin, end - begin);
    });
}

void apply(RealFunction function, std::span<const float> x, std::span<float> y) {
    TCOMPRESS_CHECK(x.size() == y.size(), "apply: sizes differ");
    parallelRanges(static_cast<std::int64_t>(x.size()), kGrain, [&](std::int64_t begin, std::int64_t end) {
        applyRange(function, x.data() + begin, y.data() + begin, end - begin);
    });
}

}  // namespace tcompress::kernels
