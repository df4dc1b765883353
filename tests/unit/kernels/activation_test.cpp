#include "kernels/activation.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

using namespace tcompress::kernels;

namespace {

const float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

/// Dense in the exponents where something happens, both signs.
std::vector<float> samplePoints(float low, float high) {
    std::vector<float> x;
    for (int i = 0; i <= 40000; ++i) x.push_back(low + (high - low) * static_cast<float>(i) / 40000.0F);
    for (float v = 1e-30F; v < std::max(-low, high); v *= 1.37F) {
        if (v <= high) x.push_back(v);
        if (-v >= low) x.push_back(-v);
    }
    return x;
}

/// Largest error in units of the last place of the true value, where those are not below `floor`.
double worstUlp(RealFunction function, double (*truth)(double), float low, float high, double floor) {
    const std::vector<float> x = samplePoints(low, high);
    std::vector<float> y(x.size());
    apply(function, x, y);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double exact = truth(static_cast<double>(x[i]));
        const double unit = std::max(std::ldexp(1.0, std::ilogb(exact == 0 ? 1e-300 : exact) - 23), floor);
        worst = std::max(worst, std::abs(y[i] - exact) / unit);
    }
    return worst;
}

float applied(RealFunction function, float x) {
    float y = 0;
    apply(function, {&x, 1}, {&y, 1});
    return y;
}

float activated(Activation activation, float x) {
    float y = 0;
    activate(activation, {&x, 1}, {&y, 1});
    return y;
}

}  // namespace

TEST_CASE("real functions are within a few units in the last place") {
    const double denormal = 1.4e-45;
    CHECK(worstUlp(
              RealFunction::exp, [](double x) { return std::exp(x); }, -103, 88.7F, denormal) <= 2);
    CHECK(worstUlp(
              RealFunction::log, [](double x) { return std::log(x); }, 1e-3F, 1e4F, 1e-9) <= 2);
    CHECK(worstUlp(
              RealFunction::tanh, [](double x) { return std::tanh(x); }, -12, 12, denormal) <= 3);
    CHECK(worstUlp(
              RealFunction::erf, [](double x) { return std::erf(x); }, -6, 6, denormal) <= 3);
    CHECK(worstUlp(
              RealFunction::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -87, 87, denormal) <=
          4);
    CHECK(worstUlp(
              RealFunction::softplus, [](double x) { return std::log1p(std::exp(x)); }, -80, 80, 6e-8) <= 4);
}

TEST_CASE("real functions at the edges") {
    CHECK(applied(RealFunction::exp, kInfinity) == kInfinity);
    CHECK(applied(RealFunction::exp, 100) == kInfinity);
    CHECK(applied(RealFunction::exp, -kInfinity) == 0);
    CHECK(applied(RealFunction::exp, 0) == 1);
    CHECK(applied(RealFunction::log, 0) == -kInfinity);
    CHECK(applied(RealFunction::log, kInfinity) == kInfinity);
    CHECK(std::isnan(applied(RealFunction::log, -1)));
    CHECK(applied(RealFunction::log, 1e-40F) == Approx(std::log(1e-40F)));
    CHECK(applied(RealFunction::tanh, kInfinity) == 1);
    CHECK(applied(RealFunction::tanh, -kInfinity) == -1);
    CHECK(applied(RealFunction::erf, kInfinity) == 1);
    CHECK(applied(RealFunction::erf, -kInfinity) == -1);
    CHECK(applied(RealFunction::sigmoid, -kInfinity) == 0);
    CHECK(applied(RealFunction::sigmoid, kInfinity) == 1);
    CHECK(std::signbit(applied(RealFunction::tanh, -0.0F)));
    for (const auto function : {RealFunction::exp, RealFunction::log, RealFunction::tanh,
                                RealFunction::sigmoid, RealFunction::erf, RealFunction::softplus})
        CHECK(std::isnan(applied(function, kNaN)));
}

TEST_CASE("activations equal their definitions") {
    const auto sigma = [](double x) { return 1 / (1 + std::exp(-x)); };
    const std::vector<std::pair<Activation, std::function<double(double)>>> cases = {
        {Activation::none, [](double x) { return x; }},
        {Activation::relu, [](double x) { return std::max(x, 0.0); }},
        {Activation::geluErf, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }},
        {Activation::geluTanh,
         [](double x) {
             return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
         }},
        {Activation::silu, [&](double x) { return x * sigma(x); }},
        {Activation::quickGelu, [&](double x) { return x * sigma(1.702 * x); }},
        {Activation::tanh, [](double x) { return std::tanh(x); }},
        {Activation::sigmoid, sigma},
    };
    const std::vector<float> x = samplePoints(-20, 20);
    std::vector<float> y(x.size());
    for (const auto& [activation, truth] : cases) {
        INFO(name(activation));
        activate(activation, x, y);
        double worst = 0;
        for (std::size_t i = 0; i < x.size(); ++i)
            worst = std::max(worst, std::abs(y[i] - truth(x[i])) / (std::abs(x[i]) + 1.0));
        CHECK(worst <= 3e-7);
        CHECK(std::isnan(activated(activation, kNaN)));
        const float limit = activated(activation, kInfinity);
        CHECK(limit == (truth(1e30) > 2 ? kInfinity : 1.0F));
    }
}

TEST_CASE("awkward sizes neither read nor write past the end") {
    for (const std::size_t size : {0, 1, 3, 7, 15, 16, 17, 31, 33, 16383, 16385}) {
        std::vector<float> x(size, 1.0F);
        std::vector<float> y(size + 1, 5.0F);
        apply(RealFunction::exp, x, {y.data(), size});
        for (std::size_t i = 0; i < size; ++i) REQUIRE(y[i] == Approx(2.718281828));
        REQUIRE(y[size] == 5.0F);
    }
}
