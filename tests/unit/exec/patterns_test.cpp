// Fused plans give what the nodes give one by one, on spellings that exporters and the quantization passes write, and on
// near misses that must not be fused.

#include <catch2/catch.hpp>

#include <fmt/core.h>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "tests/unit/exec/pattern_support.h"

namespace {

using namespace tcompress;

using namespace tcompress::test;

ir::Model model(const std::string& signature, const std::string& body, int opset = 21) { return textModel(signature, body, opset); }

TEST_CASE("MatMul, bias and erf-GELU in several spellings become one linear layer") {
    const std::string linear = "m = MatMul(x, w)\n b = Constant<value_floats = [0.1, -0.2, 0.3, 0.4]>()\n h = Add(b, m)\n";
    const std::string half = "half = Constant<value = float {0.5}>()\n one = Constant<value = float {1.0}>()\n r = Constant<value = float {1.4142135381698608}>()\n"
                             "i = Constant<value = float {0.7071067690849304}>()\n";
    for (const std::string& gelu : {
             std::string("d = Div(h, r)\n e = Erf(d)\n p = Add(e, one)\n q = Mul(h, p)\n y = Mul(q, half)"),
             std::string("d = Mul(i, h)\n e = Erf(d)\n p = Add(one, e)\n q = Mul(half, h)\n y = Mul(p, q)"),
         }) {
        const ir::Model m = model("(float[N, 3] x) => (float[N, 4] y) <float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, -1, -2, -3, -4}>", linear + half + gelu);
        const auto kinds = runBoth(m, {{"x", randomTensor({5, 3}, "x")}});
        CHECK(has(kinds, "Linear"));
        CHECK(kinds.size() == 1);
    }
}

TEST_CASE("tanh-GELU and SiLU are recognised, a near miss is not") {
    const std::string constants = "c = Constant<value = float {0.044715}>()\n s = Constant<value = float {0.7978845608}>()\n half = Constant<value = float {0.5}>()\n"
                                  "one = Constant<value = float {1.0}>()\n three = Constant<value = float {3.0}>()\n";
    const std::string tanhForm = "p = Pow(x, three)\n q = Mul(p, c)\n a = Add(x, q)\n m = Mul(a, s)\n t = Tanh(m)\n o = Add(t, one)\n h = Mul(x, half)\n y = Mul(h, o)";
    const auto run = [&](const std::string& body) {
        return runBoth(model("(float[N] x) => (float[N] y)", constants + body), {{"x", randomTensor({37}, "x")}});
    };
    CHECK(has(run(tanhForm), "Activation"));
    CHECK(has(run("g = Sigmoid(x)\n y = Mul(x, g)"), "Activation"));
    CHECK_FALSE(has(run("a = Mul(x, three)\n g = Sigmoid(a)\n y = Mul(x, g)"), "Activation"));
}

TEST_CASE("Rotary embedding spelled out becomes one operator, near misses do not") {
    const auto body = [](const std::string& headEnd, const std::string& tailStart, const std::string& tailEnd, const std::string& axis) {
        return "zero = Constant<value_ints = [0]>()\n h = Constant<value_ints = [" + headEnd + "]>()\n t = Constant<value_ints = [" + tailStart +
               "]>()\n e = Constant<value_ints = [" + tailEnd + "]>()\n a = Constant<value_ints = [" + axis + "]>()\n one = Constant<value_ints = [1]>()\n"
               "p = Mul(x, c)\n v = Slice(x, t, e, a, one)\n n = Neg(v)\n u = Slice(x, zero, h, a, one)\n"
               "r = Concat<axis = -1>(n, u)\n q = Mul(r, s)\n y = Add(p, q)";
    };
    const auto run = [&](const std::string& text, const Shape& xShape, const Shape& table) {
        const ir::Model m = model("(float[B, H, L, D] x, float[b, h, l, d] c, float[b, h, l, d] s) => (float[B2, H2, L2, D2] y)", text);
        return runBoth(m, {{"x", randomTensor(xShape, "x")}, {"c", randomTensor(table, "c")}, {"s", randomTensor(table, "s")}});
    };
    const std::string end = "9223372036854775807";
    for (const Shape& table : {Shape{1, 1, 5, 16}, Shape{2, 1, 5, 16}, Shape{2, 3, 5, 16}, Shape{1, 1, 1, 16}, Shape{2, 1, 5, 1}}) {
        const auto kinds = run(body("8", "8", end, "-1"), {2, 3, 5, 16}, table);
        CHECK(kinds == std::vector<std::string>{"RotateHalves"});
    }
    // Tables of more heads than x, a split that is not the middle, one head in all.
    CHECK(has(run(body("8", "8", end, "3"), {2, 1, 5, 16}, {2, 3, 5, 16}), "RotateHalves"));
    CHECK(has(run(body("3", "3", end, "-1"), {2, 3, 5, 7}, {1, 1, 5, 7}), "RotateHalves"));
    CHECK(has(run(body("4", "4", end, "-1"), {1, 1, 1, 9}, {1, 1, 1, 9}), "RotateHalves"));
    CHECK_FALSE(has(run(body("8", "8", "16", "-1"), {2, 3, 5, 16}, {1, 1, 5, 16}), "RotateHalves"));
}

TEST_CASE("Normalizations spelled out become one operator") {
    const std::string constants = "two = Constant<value = float {2.0}>()\n e = Constant<value = float {0.00001}>()\n one = Constant<value = float {1.0}>()\n";
    const std::string signature = "(float[N, 4] x) => (float[N, 4] y) <float[4] g = {1, 2, 3, 4}, float[4] b = {0.5, 0.25, -1, 2}>";
    const exec::Feeds feeds{{"x", randomTensor({6, 4}, "x")}};
    const std::string layer = "m = ReduceMean<axes = [-1]>(x)\n d = Sub(x, m)\n p = Pow(d, two)\n v = ReduceMean<axes = [-1]>(p)\n"
                              "s = Add(v, e)\n r = Sqrt(s)\n n = Div(d, r)\n k = Mul(n, g)\n y = Add(k, b)";
    CHECK(has(runBoth(model(signature, constants + layer, 17), feeds), "LayerNormalization"));
    const std::string rms = "p = Mul(x, x)\n v = ReduceMean<axes = [-1]>(p)\n s = Add(v, e)\n r = Sqrt(s)\n i = Div(one, r)\n n = Mul(x, i)\n y = Mul(g, n)";
    CHECK(has(runBoth(model(signature, constants + rms, 17), feeds), "SimplifiedLayerNormalization"));
    // The mean over another axis is another thing.
    const std::string other = "m = ReduceMean<axes = [0]>(x)\n d = Sub(x, m)\n p = Pow(d, two)\n v = ReduceMean<axes = [0]>(p)\n"
                              "s = Add(v, e)\n r = Sqrt(s)\n n = Div(d, r)\n k = Mul(n, g)\n y = Add(k, b)";
    CHECK_FALSE(has(runBoth(model(signature, constants + other, 17), feeds), "LayerNormalization"));
}

TEST_CASE("A residual of another shape is added with broadcasting") {
    const ir::Model m = model("(float[N, 2, 3] x, float[K, 2] r) => (float[N, 2, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}>", "m = MatMul(x, w)\n y = Add(m, r)");
    CHECK(has(runBoth(m, {{"x", randomTensor({4, 2, 3}, "x")}, {"r", randomTensor({1, 2}, "r")}}), "Linear"));
    runBoth(m, {{"x", randomTensor({4, 2, 3}, "x")}, {"r", randomTensor({2, 2}, "r")}});
}

TEST_CASE("Dynamic quantization becomes an 8-bit linear layer") {
    const ir::Model m = model(
        "(float[N, 4] x) => (float[N, 3] y) <int8[4, 3] w = {1, -2, 3, 4, -5, 6, 7, 8, -9, 10, 11, 12}, float[3] s = {0.5, 0.25, 0.125}, float[3] b = {1, 2, 3}>",
        "q, qs, qz = DynamicQuantizeLinear(x)\n i = MatMulInteger(q, w, qz)\n c = Cast<to = 1>(i)\n k = Mul(qs, s)\n f = Mul(c, k)\n y = Add(f, b)");
    const auto kinds = runBoth(m, {{"x", randomTensor({7, 4}, "x")}});
    CHECK(has(kinds, "Int8Linear"));
    CHECK(kinds.size() == 1);
}

TEST_CASE("Codes that several products read are made once") {
    const ir::Model m = model(
        "(float[N, 4] x) => (float[N, 3] y, float[N, 3] z) <int8[4, 3] w = {1, -2, 3, 4, -5, 6, 7, 8, -9, 10, 11, 12}, int8[4, 3] v = {9, -2, 3, 4, 5, 6, 7, -8, 9, 10, 11, -12}, "
        "float[3] s = {0.5, 0.25, 0.125}, float[3] b = {1, 2, 3}>",
        "q, qs, qz = DynamicQuantizeLinear(x)\n i = MatMulInteger(q, w, qz)\n c = Cast<to = 1>(i)\n k = Mul(qs, s)\n f = Mul(c, k)\n y = Add(f, b)\n"
        "j = MatMulInteger(q, v, qz)\n d = Cast<to = 1>(j)\n l = Mul(qs, s)\n g = Mul(d, l)\n z = Relu(g)");
    const auto kinds = runBoth(m, {{"x", randomTensor({7, 4}, "x")}});
    CHECK(has(kinds, "Int8Linear"));
    CHECK(has(kinds, "DynamicQuantizeLinear"));
    CHECK(kinds.size() == 2);
}

TEST_CASE("Rows of a quantized table are gathered before they are dequantized") {
    const std::string table = "(int64[N] i) => (float[N, 4] y) <int8[3, 4] t = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, ";
    const exec::Feeds feeds{{"i", Tensor::of<std::int64_t>({4}, {2, 0, -1, 1})}};
    runBoth(model(table + "float[3] s = {0.5, 0.25, 2}, int8[3] z = {1, 0, -3}>", "d = DequantizeLinear<axis = 0>(t, s, z)\n y = Gather(d, i)"), feeds);
    runBoth(model(table + "float[3, 2] s = {1, 2, 3, 4, 5, 6}>", "d = DequantizeLinear<axis = 1, block_size = 2>(t, s)\n y = Gather(d, i)"), feeds);
}

const char* const kAttention =
    "a = Constant<value_ints = [0, 0, 2, 4]>()\n f = Constant<value_ints = [0, 0, 8]>()\n r = Constant<value = float {2.0}>()\n"
    "q0 = MatMul(x, wq)\n k0 = MatMul(x, wk)\n v0 = MatMul(x, wv)\n"
    "q1 = Reshape(q0, a)\n k1 = Reshape(k0, a)\n v1 = Reshape(v0, a)\n"
    "q = Transpose<perm = [0, 2, 1, 3]>(q1)\n k = Transpose<perm = [0, 2, 3, 1]>(k1)\n v = Transpose<perm = [0, 2, 1, 3]>(v1)\n"
    "s0 = MatMul(q, k)\n s1 = Div(s0, r)\n s2 = Add(s1, mask)\n p = Softmax<axis = -1>(s2)\n o0 = MatMul(p, v)\n"
    "o1 = Transpose<perm = [0, 2, 1, 3]>(o0)\n y = Reshape(o1, f)";

TEST_CASE("Attention with its projections becomes one product and one kernel") {
    std::string weights;
    for (const char* name : {"wq", "wk", "wv"}) {
        std::string elements;
        const Tensor values = randomTensor({5, 8}, name);
        for (float x : values.data<float>()) elements += fmt::format("{}{:.4f}", elements.empty() ? "" : ", ", x);
        weights += fmt::format("{}float[5, 8] {} = {{{}}}", weights.empty() ? "" : ", ", name, elements);
    }
    const ir::Model m = model(fmt::format("(float[B, S, 5] x, float[B, 1, 1, S] mask) => (float[B, S, 8] y) <{}>", weights), kAttention);
    Tensor mask(DType::float32, {2, 1, 1, 3});
    mask.mutableData<float>()[5] = -10000;
    const auto kinds = runBoth(m, {{"x", randomTensor({2, 3, 5}, "x")}, {"mask", mask}});
    CHECK(has(kinds, "PackedAttention"));
    CHECK_FALSE(has(kinds, "Softmax"));
    CHECK_FALSE(has(kinds, "Transpose"));
}

TEST_CASE("A float16 model runs in float32 and gives float16") {
    const ir::Model m = model("(float16[N, 3] x) => (float16[N, 2] y) <float16[3, 2] w = {1, 2, 3, 4, 5, 6}>", "m = MatMul(x, w)\n y = Relu(m)");
    const Tensor x = convert(randomTensor({4, 3}, "x"), DType::float16);
    CHECK(has(runBoth(m, {{"x", x}}, 2e-3), "Linear"));
}

TEST_CASE("What cannot run is named") {
    const ir::Model m = ir::fromText(
        "<ir_version: 8, opset_import: [\"\" : 17, \"odd.domain\" : 3]>\nagraph (float[N] x) => (float[N] y) { h = odd.domain.Mystery(x)\n y = odd.domain.Riddle(h) }");
    const std::vector<std::string> found = exec::unsupportedOperators(m);
    REQUIRE(found.size() == 2);
    CHECK(found[0].find("operator Mystery of domain 'odd.domain' version 3") != std::string::npos);
    CHECK_THROWS_WITH(exec::Executor(m), Catch::Contains("Mystery") && Catch::Contains("Riddle"));
}

TEST_CASE("Feeds are checked") {
    const ir::Model m = model("(float[N, 3] x) => (float[N, 3] y)", "y = Relu(x)");
    exec::Executor executor(m);
    CHECK_THROWS_AS(executor.run({}), DataError);
    CHECK_THROWS_AS(executor.run({{"x", Tensor(DType::int64, {1, 3})}}), DataError);
    CHECK_THROWS_AS(executor.run({{"x", Tensor(DType::float32, {3})}}), DataError);
    CHECK_THROWS_AS(executor.run({{"x", Tensor(DType::float32, {1, 3})}, {"z", Tensor(DType::float32, {1})}}), DataError);
}

TEST_CASE("A model's own function runs") {
    const ir::Model m = ir::fromText(
        "<ir_version: 8, opset_import: [\"\" : 17, \"mine\" : 1]>\nagraph (float[N] x) => (float[N] y) { y = mine.twice<k = 3>(x) }\n"
        "<domain: \"mine\", opset_import: [\"\" : 17]>\ntwice <k>(a) => (b) { c = Constant<value_int: int = @k>()\n f = Cast<to = 1>(c)\n t = Add(a, a)\n b = Mul(t, f) }");
    const std::vector<Tensor> y = exec::Executor(m).run({{"x", Tensor::of<float>({2}, {1, -2})}});
    CHECK(y[0].data<float>()[0] == 6.0F);
    CHECK(y[0].data<float>()[1] == -12.0F);
}

TEST_CASE("evaluateNode computes constants") {
    const ir::Model m = model("(float[N] x) => (float[N] y) <float[2] a = {1, 2}>", "b = Neg(a)\n y = Add(x, b)");
    const ir::Node& node = *m.graph().nodes()[0];
    const std::vector<Tensor> inputs{*node.input(0)->constant()};
    const std::vector<Tensor> outputs = exec::evaluateNode(m, node, inputs);
    REQUIRE(outputs.size() == 1);
    CHECK(outputs[0].data<float>()[1] == -2.0F);
}

}  // namespace
