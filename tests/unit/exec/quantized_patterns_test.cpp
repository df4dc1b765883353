// Models whose values are 8-bit codes between QuantizeLinear and DequantizeLinear nodes: the plan keeps them
// in codes and computes what the nodes compute one by one.

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
    "<int8[4, 3] w = {1, -2, 3, 4, -5, 6, 7, 8, -9, 10, 11, 12}, float[3] s = {0.5, 0.25, 0.125}, int8[3] z "
    "= {0, 0, 0}, float[3] b = {1, 2, 3}>";

std::vector<std::string> run(const std::string& signature, const std::string& body, double tolerance = 1e-5) {
    return runBoth(textModel(signature, kCodes + body), {{"x", randomTensor({7, 4}, "x")}}, tolerance);
}

TEST_CASE("A QDQ linear layer multiplies codes") {
    const std::string linear =
        "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = 1>(w, "
        "s, z)\n";
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
    const auto rounded = run(signature, linear +
                                            "m = MatMul(d, e)\n mq = QuantizeLinear(m, ms, mz)\n md = "
                                            "DequantizeLinear(mq, ms, mz)\n y = Add(b, md)");
    CHECK(has(rounded, "Int8Linear"));
    CHECK_FALSE(has(rounded, "Add"));
}

TEST_CASE("A product of integers with constant ranges is one layer, which its bias and activation join") {
    const std::string signature = "(float[N, 4] x) => (float[N, 3] y) " + kWeights;
    const std::string product =
        "q = QuantizeLinear(x, xs, xz)\n i = MatMulInteger(q, w, xz)\n f = Cast<to = 1>(i)\n t = Mul(xs, s)\n "
        "m = Mul(f, t)\n n = Add(m, b)\n";
    const auto kinds = run(signature, product + "y = Relu(n)");
    CHECK((has(kinds, "Int8Linear") && has(kinds, "QuantizeLinear") && kinds.size() == 2));
    // What comes out is made codes by the layer.
    const auto coded = run("(float[N, 4] x) => (uint8[N, 3] y) " + kWeights, product + "y = QuantizeLinear(n, ys, yz)");
    CHECK((has(coded, "Int8Linear") && coded.size() == 2));
    // The zero point of another tensor is not that of the codes.
    const auto other = run(signature,
                           "q = QuantizeLinear(x, xs, xz)\n i = MatMulInteger(q, w, yz)\n f = Cast<to = 1>(i)\n t = Mul(xs, s)\n "
                           "y = Mul(f, t)\n");
    CHECK(has(other, "MatMulInteger"));
}

TEST_CASE("A QDQ Gemm with transposed weights and an int32 bias multiplies codes") {
    const auto kinds = run(
        "(float[N, 4] x) => (float[N, 3] y) <uint8[3, 4] w = {1, 200, 3, 4, 255, 6, 7, 8, 9, 10, 11, 12}, "
        "float[3] s = {0.5, 0.25, 0.125}, "
        "uint8[3] z = {128, 3, 100}, int32[3] c = {100, -200, 300}, float[3] cs = {0.015, 0.0075, 0.00375}>",
        "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = 0>(w, "
        "s, z)\n"
        "f = DequantizeLinear<axis = 0>(c, cs)\n y = Gemm<transB = 1>(d, e, f)");
    CHECK(has(kinds, "Int8Linear"));
    CHECK(kinds.size() == 2);
}

TEST_CASE("Scales along the summed axis cannot be taken out of a product of codes") {
    const auto kinds =
        run("(float[N, 4] x) => (float[N, 3] y) <int8[4, 3] w = {1, -2, 3, 4, -5, 6, 7, 8, -9, 10, 11, 12}, "
            "float[4] s = {0.5, 0.25, 0.125, 1}>",
            "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = "
            "0>(w, s)\n y = MatMul(d, e)");
    CHECK_FALSE(has(kinds, "Int8Linear"));
    CHECK(has(kinds, "Linear"));
}

TEST_CASE("Quantization moves up through what only moves elements, into the layer before") {
    const std::string before =
        "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e = DequantizeLinear<axis = 1>(w, "
        "s, z)\n m = MatMul(d, e)\n";
    const auto kinds = run("(float[N, 4] x) => (uint8[3, N] y) " + kWeights,
                           before +
                               "t = Transpose<perm = [1, 0]>(m)\n u = QuantizeLinear(t, ys, yz)\n v = "
                               "DequantizeLinear(u, ys, yz)\n"
                               "y = QuantizeLinear(v, ys, yz)");
    // The pair of one code vanishes, and so does the quantization of floats.
    CHECK(has(kinds, "Int8Linear"));
    CHECK(has(kinds, "Transpose"));
    CHECK_FALSE(has(kinds, "DequantizeLinear"));
    // Another code is another rounding.
    const auto other = run("(float[N, 4] x) => (uint8[3, N] y) " + kWeights,
                           before +
                               "t = Transpose<perm = [1, 0]>(m)\n u = QuantizeLinear(t, ys, yz)\n v = "
                               "DequantizeLinear(u, ys, yz)\n"
                               "y = QuantizeLinear(v, ms, mz)");
    CHECK(has(other, "CodeTable"));
    CHECK_FALSE(has(other, "DequantizeLinear"));
    // A value that somebody else reads as floats is still made.
    run("(float[N, 4] x) => (uint8[3, N] y, float[N, 3] m) " + kWeights,
        before + "t = Transpose<perm = [1, 0]>(m)\n y = QuantizeLinear(t, ys, yz)");
    // Its shape is asked for before the quantization.
    run("(float[N, 4] x) => (uint8[3, N] y, int64[2] h) " + kWeights,
        before + "t = Transpose<perm = [1, 0]>(m)\n h = Shape(t)\n y = QuantizeLinear(t, ys, yz)");
}

TEST_CASE("What stands between two codes becomes a table") {
    const std::string gelu =
        "r = Constant<value = float {1.4142135}>()\n one = Constant<value = float {1.0}>()\n half = "
        "Constant<value = float {0.5}>()\n"
        "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n e0 = Div(d, r)\n e1 = Erf(e0)\n"
        "eq = QuantizeLinear(e1, es, ez)\n e2 = DequantizeLinear(eq, es, ez)\n e3 = Add(e2, one)\n e4 = "
        "Mul(d, e3)\n e5 = Mul(e4, half)\n";
    const std::string codes =
        "es = Constant<value = float {0.0081}>()\n ez = Constant<value = uint8 {128}>()\n";
    const auto kinds =
        run("(float[N, 4] x) => (uint8[N, 4] y)", codes + gelu + "y = QuantizeLinear(e5, ys, yz)");
    CHECK(kinds.size() == 2);
    CHECK(has(kinds, "CodeTable"));
    // Two codes in: no table. A value in between that somebody reads: no table either.
    CHECK_FALSE(has(run("(float[N, 4] x) => (uint8[N, 4] y)",
                        codes + gelu +
                            "w = Relu(x)\n wq = QuantizeLinear(w, ms, mz)\n wd = DequantizeLinear(wq, ms, "
                            "mz)\n e6 = Mul(e5, wd)\n y = QuantizeLinear(e6, ys, yz)"),
                    "CodeTable"));
    CHECK_FALSE(has(run("(float[N, 4] x) => (uint8[N, 4] y, float[N, 4] e5)",
                        codes + gelu + "y = QuantizeLinear(e5, ys, yz)"),
                    "CodeTable"));
}

TEST_CASE("Sums and normalizations stay in codes") {
    const std::string both =
        "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n t = Exp(x)\n p = "
        "QuantizeLinear(t, ms, mz)\n"
        "e = DequantizeLinear(p, ms, mz)\n s = Add(d, e)\n sq = QuantizeLinear(s, ys, yz)\n";
    CHECK(has(run("(float[N, 4] x) => (uint8[N, 4] sq)", both), "CodedAdd"));
    const auto normalized = run(
        "(float[N, 4] x) => (uint8[N, 4] y) <float[4] g = {1.5, 2, -0.7, 1}, float[4] b = {0.5, 0, 1, -1}>",
        both +
            "sd = DequantizeLinear(sq, ys, yz)\n n = LayerNormalization<axis = -1>(sd, g, b)\n y = "
            "QuantizeLinear(n, ms, mz)");
    CHECK(has(normalized, "CodedAdd"));
    CHECK(has(normalized, "CodedNormalization"));
    CHECK_FALSE(has(normalized, "DequantizeLinear"));
    // Shapes that differ are broadcast.
    CHECK(has(run("(float[N, 4] x) => (uint8[N, 4] sq)",
                  "q = QuantizeLinear(x, xs, xz)\n d = DequantizeLinear(q, xs, xz)\n m = ReduceMean<keepdims "
                  "= 1>(x)\n p = QuantizeLinear(m, ms, mz)\n"
                  "e = DequantizeLinear(p, ms, mz)\n s = Add(d, e)\n sq = QuantizeLinear(s, ys, yz)"),
              "CodedAdd"));
}

const char* const kAttention =
    "q0 = QuantizeLinear(q, xs, xz)\n k0 = QuantizeLinear(k, xs, xz)\n v0 = QuantizeLinear(v, xs, xz)\n"
    "q1 = DequantizeLinear(q0, xs, xz)\n k1 = DequantizeLinear(k0, xs, xz)\n v1 = DequantizeLinear(v0, xs, "
    "xz)\n"
    "q2 = Transpose<perm = [0, 2, 1, 3]>(q1)\n k2 = Transpose<perm = [0, 2, 3, 1]>(k1)\n v2 = Transpose<perm "
    "= [0, 2, 1, 3]>(v1)\n"
    "q3 = QuantizeLinear(q2, xs, xz)\n k3 = QuantizeLinear(k2, xs, xz)\n v3 = QuantizeLinear(v2, xs, xz)\n"
    "q4 = DequantizeLinear(q3, xs, xz)\n k4 = DequantizeLinear(k3, xs, xz)\n v4 = DequantizeLinear(v3, xs, "
    "xz)\n"
    "s0 = MatMul(q4, k4)\n";
const char* const kWeighted =
    "p1 = QuantizeLinear(p0, ps, pz)\n p2 = DequantizeLinear(p1, ps, pz)\n o0 = MatMul(p2, v4)\n"
    "o1 = QuantizeLinear(o0, os, xz)\n o2 = DequantizeLinear(o1, os, xz)\n o3 = Transpose<perm = [0, 2, 1, "
    "3]>(o2)\n y = QuantizeLinear(o3, os, xz)";

TEST_CASE("Attention between codes is one node") {
    const std::string codes =
        kCodes +
        "r = Constant<value = float {2.0}>()\n ps = Constant<value = float {0.00392157}>()\n"
        "pz = Constant<value = uint8 {0}>()\n ss = Constant<value = float {0.0513}>()\n os = Constant<value "
        "= float {0.0171}>()\n";
    const std::string signature =
        "(float[B, S, 2, 4] q, float[B, S, 2, 4] k, float[B, S, 2, 4] v, float[B, 1, 1, S] mask) => "
        "(uint8[B, S, 2, 4] y)";
    Tensor mask(DType::float32, {2, 1, 1, 5});
    mask.mutableData<float>()[7] = -100;
    const exec::Feeds feeds{{"q", randomTensor({2, 5, 2, 4}, "q")},
                            {"k", randomTensor({2, 5, 2, 4}, "k")},
                            {"v", randomTensor({2, 5, 2, 4}, "v")},
                            {"mask", mask}};
    const std::string plain = "s1 = Div(s0, r)\n s2 = Add(s1, mask)\n p0 = Softmax<axis = -1>(s2)\n";
    const std::string rounded =
        "t0 = QuantizeLinear(s0, ss, xz)\n t1 = DequantizeLinear(t0, ss, xz)\n s1 = Div(t1, r)\n t2 = "
        "QuantizeLinear(s1, ss, xz)\n"
        "t3 = DequantizeLinear(t2, ss, xz)\n s2 = Add(mask, t3)\n p0 = Softmax<axis = -1>(s2)\n";
    for (const std::string& scores : {plain, rounded}) {
        // A probability that rounds the other way moves a result by one code.
        const auto kinds =
            runBoth(textModel(signature, codes + kAttention + scores + kWeighted), feeds, 1.5 / 255);
        CHECK(has(kinds, "Int8Attention"));
        CHECK_FALSE(has(kinds, "Transpose"));
        CHECK_FALSE(has(kinds, "Softmax"));
    }
    // A softmax over another axis, or probabilities that stay floats, are another thing.
    CHECK_FALSE(has(
        runBoth(
            textModel(signature, codes + kAttention +
                                     "s1 = Div(s0, r)\n s2 = Add(s1, mask)\n p0 = Softmax<axis = 2>(s2)\n" +
                                     kWeighted),
            feeds, 1.5 / 255),
        "Int8Attention"));
}

TEST_CASE("Projections of the same codes become one product before float attention") {
    std::string weights,
        body = kCodes +
               "a = Constant<value_ints = [0, 0, 2, 4]>()\n f = Constant<value_ints = [0, 0, 8]>()\n"
               "r = Constant<value = float {2.0}>()\n"
               "xq = QuantizeLinear(x, xs, xz)\n xd = DequantizeLinear(xq, xs, xz)\n";
    int value = 0;
    for (const char* name : {"q", "k", "v"}) {
        std::string elements, scales;
        for (int i = 0; i < 40; ++i)
            elements += fmt::format("{}{}", i ? ", " : "", (value += 37) % 255 - 127);
        for (int i = 0; i < 8; ++i) scales += fmt::format("{}{:.4f}", i ? ", " : "", 0.01 + 0.001 * i);
        weights += fmt::format("{}int8[5, 8] w{} = {{{}}}, float[8] s{} = {{{}}}",
                               weights.empty() ? "" : ", ", name, elements, name, scales);
        body += fmt::format(
            "d{0} = DequantizeLinear<axis = 1>(w{0}, s{0})\n {0}0 = MatMul(xd, d{0})\n"
            " {0}1 = Reshape({0}0, a)\n",
            name);
    }
    body +=
        "q2 = Transpose<perm = [0, 2, 1, 3]>(q1)\n k2 = Transpose<perm = [0, 2, 3, 1]>(k1)\n"
        "v2 = Transpose<perm = [0, 2, 1, 3]>(v1)\n s0 = MatMul(q2, k2)\n s1 = Div(s0, r)\n"
        "p = Softmax<axis = -1>(s1)\n o0 = MatMul(p, v2)\n o1 = Transpose<perm = [0, 2, 1, 3]>(o0)\n y = "
        "Reshape(o1, f)";
    const auto kinds =
        runBoth(textModel(fmt::format("(float[B, S, 5] x) => (float[B, S, 8] y) <{}>", weights), body),
                {{"x", randomTensor({2, 3, 5}, "x")}});
    CHECK(has(kinds, "PackedAttention"));
    CHECK(has(kinds, "Int8Linear"));
    CHECK_FALSE(has(kinds, "Attention"));
}

TEST_CASE("Weights of few bits are multiplied as they are stored") {
    const auto kinds = [](const std::string& signature, const std::string& body) {
        return runBoth(textModel(signature, body), {{"x", randomTensor({3, 8}, "x")}});
    };
    // Two values a byte.
    const std::string stored = "int4[8, 2] w = {225, 67, 107, 135, 16, 50, 84, 122}";
    const auto blocked =
        kinds("(float[N, 8] x) => (float[N, 2] y) <" + stored +
                  ", float[1, 2] s = {0.5, 0.25}, int4[1, 2] z = {225}, float[2] b = {1, 2}>",
              "d = DequantizeLinear<axis = 0, block_size = 8>(w, s, z)\n m = MatMul(x, d)\n a = Add(m, b)\n "
              "y = Relu(a)");
    CHECK(blocked == std::vector<std::string>{"CodedLinear"});
    const auto perColumn = kinds(
        "(float[N, 8] x) => (float[N, 2] y) <uint8[2, 8] w = {1, 2, 3, 4, 5, 6, 7, 250, 1, 2, 3, 4, 5, 6, 7, "
        "8}, float[2] s = {0.5, 0.25}, "
        "uint8[2] z = {128, 3}, float[2] b = {1, 2}>",
        "d = DequantizeLinear<axis = 0>(w, s, z)\n y = Gemm<transB = 1>(x, d, b)");
    CHECK(perColumn == std::vector<std::string>{"CodedLinear"});
    const auto nBits = kinds(
        "(float[N, 8] x) => (float[N, 2] y) <uint8[2, 1, 8] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, "
        "14, 15, 255}, float[2] s = {0.5, 0.25}, "
        "uint8[2, 1] z = {7, 9}>",
        "y = com.microsoft.MatMulNBits<K = 8, N = 2, bits = 4, block_size = 16>(x, w, s, z)");
    CHECK(nBits == std::vector<std::string>{"CodedLinear"});
    // A scale a row of W belongs to the summed axis, one value at a time: decoded once, when the plan is
    // made.
    CHECK(kinds("(float[N, 8] x) => (float[N, 2] y) <" + stored + ", float[8] s = {1, 2, 3, 4, 5, 6, 7, 8}>",
                "d = DequantizeLinear<axis = 0>(w, s)\n y = MatMul(x, d)") ==
          std::vector<std::string>{"Linear"});
}

}  // namespace
