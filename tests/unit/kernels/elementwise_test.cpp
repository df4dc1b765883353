#include "kernels/elementwise.h"

#include <catch2/catch.hpp>
#include <memory>

#include "lib/support/error.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

using Shape = std::vector<std::int64_t>;

std::int64_t count(const Shape& shape) {
    std::int64_t size = 1;
    for (const std::int64_t d : shape) size *= d;
    return size;
}

/// Index into an operand of `shape` for the flat index into `result`, by NumPy's rule.
std::int64_t operandIndex(std::int64_t flat, const Shape& result, const Shape& shape) {
    std::int64_t index = 0;
    std::int64_t stride = 1;
    for (std::size_t fromEnd = 0; fromEnd < result.size(); ++fromEnd) {
        const std::int64_t size = result[result.size() - 1 - fromEnd];
        const std::int64_t position = flat % size;
        flat /= size;
        if (fromEnd >= shape.size()) continue;
        const std::int64_t own = shape[shape.size() - 1 - fromEnd];
        if (own != 1) index += position * stride;
        stride *= own;
    }
    return index;
}

const std::vector<std::pair<Shape, Shape>> kShapes = {
    {{}, {}},
    {{7}, {7}},
    {{7}, {}},
    {{}, {5, 3}},
    {{4, 5}, {5}},
    {{4, 1}, {1, 5}},
    {{2, 3, 4}, {3, 1}},
    {{2, 1, 4}, {3, 4}},
    {{2, 3, 4}, {2, 1, 4}},
    {{2, 1, 1, 37}, {1, 3, 5, 37}},
    {{3, 1}, {3, 700}},
    {{0, 4}, {1, 4}},
    {{120, 300}, {300}},
    {{120, 300}, {120, 1}},
};

}  // namespace

TEST_CASE("broadcasting follows NumPy for every pair of shapes") {
    Restore restore;
    for (const auto& [aShape, bShape] : kShapes) {
        const Shape result = broadcastShape(aShape, bShape);
        const std::vector<Shape> operands = {aShape, bShape};
        const Broadcast plan = broadcast(result, operands);
        const std::vector<float> a = randomFloats(count(aShape), "a");
        const std::vector<float> b = randomFloats(count(bShape), "b");
        for (const int threads : {1, 3}) {
            setThreadCount(threads);
            std::vector<float> y(static_cast<std::size_t>(count(result)));
            binary(BinaryOp::subtract, plan, a.data(), b.data(), y.data());
            const auto less = std::make_unique<bool[]>(y.size() + 1);
            compare(CompareOp::less, plan, a.data(), b.data(), less.get());
            for (std::size_t i = 0; i < y.size(); ++i) {
                const float left = a[operandIndex(static_cast<std::int64_t>(i), result, aShape)];
                const float right = b[operandIndex(static_cast<std::int64_t>(i), result, bShape)];
                REQUIRE(y[i] == left - right);
                REQUIRE(less[i] == (left < right));
            }
            std::vector<float> expanded(y.size());
            const std::vector<Shape> one = {aShape};
            expand(broadcast(result, one), a.data(), 4, expanded.data());
            for (std::size_t i = 0; i < y.size(); ++i)
                REQUIRE(expanded[i] == a[operandIndex(static_cast<std::int64_t>(i), result, aShape)]);
        }
    }
    CHECK_THROWS_WITH(broadcastShape(Shape{2, 3}, Shape{4}),
                      Catch::Contains("[2, 3]") && Catch::Contains("[4]"));
}

TEST_CASE("where takes three broadcast operands") {
    const Shape result = {2, 3, 4};
    const std::vector<Shape> shapes = {{3, 1}, {2, 1, 4}, {}};
    const bool condition[] = {true, false, true};
    const std::vector<std::int64_t> a = {1, 2, 3, 4, 5, 6, 7, 8};
    const std::int64_t b = -1;
    std::vector<std::int64_t> y(24);
    where(broadcast(result, shapes), condition, a.data(), &b, 8, y.data());
    for (std::int64_t i = 0; i < 24; ++i)
        CHECK(y[i] == (condition[i / 4 % 3] ? a[operandIndex(i, result, shapes[1])] : -1));
}

namespace {

template <class T>
T one(BinaryOp op, T a, T b) {
    T y{};
    const std::vector<Shape> shapes = {{}, {}};
    binary(op, broadcast(Shape{}, shapes), &a, &b, &y);
    return y;
}

template <class T>
T one(UnaryOp op, T x) {
    T y{};
    unary<T>(op, {&x, 1}, {&y, 1});
    return y;
}

}  // namespace

TEST_CASE("binary operators on integers never trap") {
    constexpr auto kLowest = std::numeric_limits<std::int32_t>::min();
    CHECK(one<std::int32_t>(BinaryOp::add, std::numeric_limits<std::int32_t>::max(), 1) == kLowest);
    CHECK(one<std::int32_t>(BinaryOp::divide, 7, 0) == 0);
    CHECK(one<std::int32_t>(BinaryOp::divide, kLowest, -1) == kLowest);
    CHECK(one<std::int32_t>(BinaryOp::divide, -7, 2) == -3);
    CHECK(one<std::int32_t>(BinaryOp::modulo, -7, 3) == 2);
    CHECK(one<std::int32_t>(BinaryOp::fmod, -7, 3) == -1);
    CHECK(one<std::int32_t>(BinaryOp::modulo, 7, -3) == -2);
    CHECK(one<std::int32_t>(BinaryOp::modulo, kLowest, -1) == 0);
    CHECK(one<std::uint8_t>(BinaryOp::subtract, 3, 5) == 254);
    CHECK(one<std::int16_t>(BinaryOp::multiply, 300, 300) == static_cast<std::int16_t>(90000));
    CHECK(one<std::int64_t>(BinaryOp::power, -3, 5) == -243);
    CHECK(one<std::uint64_t>(BinaryOp::shiftLeft, 1, 40) == 1ULL << 40);
    CHECK(one<std::uint8_t>(BinaryOp::shiftLeft, 1, 9) == 0);
    CHECK(one<std::uint8_t>(BinaryOp::shiftRight, 128, 7) == 1);
    CHECK(one<std::int8_t>(BinaryOp::shiftRight, -128, 7) == -1);
    CHECK(one<std::int64_t>(BinaryOp::shiftRight, -8, 64) == -1);
    CHECK(one<std::int32_t>(BinaryOp::shiftRight, 8, -1) == 0);
    CHECK(one<std::int32_t>(BinaryOp::shiftLeft, -8, 32) == 0);
    CHECK(one<std::int32_t>(BinaryOp::bitXor, 6, 3) == 5);
    CHECK_THROWS_AS(one<float>(BinaryOp::bitAnd, 1, 1), KernelError);
}

TEST_CASE("binary operators on floating point") {
    CHECK(one<float>(BinaryOp::divide, 1, 0) == INFINITY);
    CHECK(one<float>(BinaryOp::power, 2, 0.5F) == Approx(std::sqrt(2.0F)));
    CHECK(one<float>(BinaryOp::power, -3, 2) == 9);
    CHECK(one<double>(BinaryOp::fmod, -7, 3) == -1);
    CHECK(one<float>(BinaryOp::modulo, -7, 3) == 2);
    CHECK(std::isnan(one<float>(BinaryOp::minimum, NAN, 1)));
    CHECK(std::isnan(one<float>(BinaryOp::minimum, 1, NAN)));
    CHECK(std::isnan(one<float>(BinaryOp::maximum, NAN, 1)));
    CHECK(std::isnan(one<float>(BinaryOp::maximum, 1, NAN)));
    CHECK(one<float>(BinaryOp::maximum, -2, 1) == 1);
    const std::vector<Shape> shapes = {{3}, {}};
    const std::vector<std::int32_t> base = {2, -2, 1};
    const float exponent = 3.0F;
    std::vector<std::int32_t> y(3);
    power(broadcast(Shape{3}, shapes), base.data(), &exponent, y.data());
    CHECK(y == std::vector<std::int32_t>{8, -8, 1});
}

TEST_CASE("unary operators") {
    CHECK(one<float>(UnaryOp::round, 2.5F) == 2);
    CHECK(one<float>(UnaryOp::round, -1.5F) == -2);
    CHECK(one<float>(UnaryOp::sign, -3) == -1);
    CHECK(one<float>(UnaryOp::erf, 0.5F) == Approx(std::erf(0.5)));
    CHECK(one<double>(UnaryOp::softplus, 1000) == 1000);
    CHECK(one<double>(UnaryOp::atanh, 0.5) == Approx(std::atanh(0.5)));
    CHECK(one<float>(UnaryOp::sqrt, 2) == Approx(std::sqrt(2.0)));
    CHECK(one<float>(UnaryOp::softsign, -3) == -0.75F);
    CHECK(one<std::int8_t>(UnaryOp::absolute, -128) == -128);
    CHECK(one<std::int64_t>(UnaryOp::negate, 5) == -5);
    CHECK(one<std::uint8_t>(UnaryOp::bitNot, 1) == 254);
    CHECK(one<std::uint32_t>(UnaryOp::sign, 7) == 1);
    CHECK_THROWS_AS(one<std::int32_t>(UnaryOp::exp, 1), KernelError);
    std::vector<float> x = {-2, 0.5F, 9};
    clip<float>(x, 0, 6, x);
    CHECK(x == std::vector<float>{0, 0.5F, 6});
    const auto parametric = [](ParametricOp op, float alpha, float beta, float v) {
        float y = 0;
        unary<float>(ParametricUnary{op, alpha, beta}, {&v, 1}, {&y, 1});
        return y;
    };
    CHECK(parametric(ParametricOp::leakyRelu, 0.1F, 0, -2) == Approx(-0.2));
    CHECK(parametric(ParametricOp::elu, 2, 0, -1) == Approx(2 * std::expm1(-1.0)));
    CHECK(parametric(ParametricOp::hardSigmoid, 0.2F, 0.5F, 1) == Approx(0.7));
    CHECK(parametric(ParametricOp::hardSwish, 1 / 6.0F, 0.5F, 3) == Approx(3));
    CHECK(parametric(ParametricOp::mish, 0, 0, 1) == Approx(std::tanh(std::log1p(std::exp(1.0)))));
    CHECK(parametric(ParametricOp::softshrink, 0.5F, 0.25F, 1) == 0.75F);
}
