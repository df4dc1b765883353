// Models whose values are 8-bit codes between QuantizeLinear and DequantizeLinear nodes: the plan keeps them in codes and
// computes what the nodes compute one by one.

#include <fmt/core.h>

#include <catch2/catch.hpp>

#include "tests/unit/exec/pattern_support.h"

namespace {

using namespace tcompress;
using namespace tcompress::test;

const std::string kCodes =
    "xs = Constant<value = float {0.0313}>()\n xz = Constant<value = uint8 {128}>()\n"
    "ms = Constant<value = float {0.1117}>()\n mz = Constant<value = uint8 {120}>()\n"
    "ys = Constant<value = float {0.0719}>()\n yz = Constant<value = uint8 {100}>()\n";
const std::string kWeights =
    "<int8[4, 3] w = {1, -2, 3, 4, -5, 6, 7, 8, -9, 10, 11, 12}, float[3] s = {0.5, 0.25, 0.125}, int8[3] z = {0, 0, 0}, float[3] b = {1, 2, 3}>";

std::vector<std::string> run(const std::string& signature, const std::string& body, double tolerance = 1e-5) {
    return runBoth(textModel(signature, kCodes + body), {{"x", randomTensor({7, 4}, "x")}}, tolerance);
}

TEST_CASE("A QDQ linear layer multiplies codes") {
    const std::string linear = "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = 1>(w, s, z)\n";
    const std::string signature = "(float[N, 4] x) => (float[N, 3] y) " + kWeights;
    const auto plain = run(signature, linear + "y = MatMul(d, e)");
    CHECK(has(plain, "Int8Linear"));
    CHECK_FALSE(has(plain, "DequantizeLinear"));
    const auto biased = run(signature, linear + "m = MatMul(d, e)\n y = Add(m, b)");
    CHECK(has(biased, "Int8Linear"));
    CHECK_FALSE(has(biased, "Add"));
    const auto activated = run(signature, linear + "m = MatMul(d, e)\n n = Add(m, b)\n y = Relu(n)");
    CHECK_FALSE(has(activated, "Relu"));
    // A rounding between the product and the bias stays.
    const auto rounded = run(signature, linear + "m = MatMul(d, e)\n mq = QuantizeLinear(m, ms, mz)\n md = DequantizeLinear(mq, ms, mz)\n y = Add(b, md)");
    CHECK(has(rounded, "Int8Linear"));
    CHECK_FALSE(has(rounded, "Add"));
}

TEST_CASE("A QDQ Gemm with transposed weights and an int32 bias multiplies codes") {
    const auto kinds = run(
        "(float[N, 4] x) => (float[N, 3] y) <uint8[3, 4] w = {1, 200, 3, 4, 255, 6, 7, 8, 9, 10, 11, 12}, float[3] s = {0.5, 0.25, 0.125}, "
        "uint8[3] z = {128, 3, 100}, int32[3] c = {100, -200, 300}, float[3] cs = {0.015, 0.0075, 0.00375}>",
        "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = 0>(w, s, z)\n"
        "f = DequantizeLinear<axis = 0>(c, cs)\n y = Gemm<transB = 1>(d, e, f)");
    CHECK(has(kinds, "Int8Linear"));
    CHECK(kinds.size() == 2);
}

TEST_CASE("Scales along the summed axis cannot be taken out of a product of codes") {
    const auto kinds = run("(float[N, 4] x) => (float[N, 3] y) <int8[4, 3] w = {1, -2, 3, 4, -5, 6, 7, 8, -9, 10, 11, 12}, float[4] s = {0.5, 0.25, 0.125, 1}>",
                           "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = 0>(w, s)\n y = MatMul(d, e)");
    CHECK_FALSE(has(kinds, "Int8Linear"));
    CHECK(has(kinds, "Linear"));
}

TEST_CASE("Quantization moves up through what only moves elements, into the layer before") {
    const std::string before = "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = 1>(w, s, z)\n m = MatMul(d, e)\n";
    const auto kinds = run("(float[N, 4] x) => (uint8[3, N] y) " + kWeights,
                           before + "t = Transpose<perm = [1, 0]>(m)\n u = QuantizeLinear(t, ys, yz)\n v = DequantizeLinear(u, ys, yz)\n"
                                    "y = QuantizeLinear(v, ys, yz)");
    // The pair of one code vanishes, and so does the quantization of floats.
    CHECK(has(kinds, "Int8Linear"));
    CHECK(has(kinds, "Transpose"));
    CHECK_FALSE(has(kinds, "DequantizeLinear"));
    // Another code is another rounding.
    const auto other = run("(float[N, 4] x) => (uint8[3, N] y) " + kWeights,
                           before + "t = Transpose<perm = [1, 0]>(m)\n u = QuantizeLinear(t, ys, yz)\n v = DequantizeLinear(u, ys, yz)\n"
                                    "y = QuantizeLinear(v, ms, mz)");
    CHECK(has(other, "DequantizeLinear"));
    // A value that somebody else reads as floats is still made.
    run("(float[N, 4] x) => (uint8[3, N] y, float[N, 3] m) " + kWeights,
        before + "t = Transpose<perm = [1, 0]>(m)\n y = QuantizeLinear(t, ys, yz)");
}

}  // namespace
