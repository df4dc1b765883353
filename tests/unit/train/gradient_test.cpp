// Gradients against their definition: the slope of a random sum of the outputs along random directions, from central
// differences of the executor's own results.

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/exec/executor.h"
#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "lib/support/random.h"
#include "lib/train/gradient.h"
#include "tests/support/text_model.h"

namespace tcompress::train {
namespace {

Tensor randomTensor(const Shape& shape, Random& random, double low, double high) {
    Tensor tensor(DType::float32, shape);
    for (float& value : tensor.mutableData<float>()) value = static_cast<float>(low + (high - low) * random.uniform());
    return tensor;
}

double dot(const Tensor& a, const Tensor& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.data<float>().size(); ++i) sum += static_cast<double>(a.data<float>()[i]) * static_cast<double>(b.data<float>()[i]);
    return sum;
}

std::vector<const ir::Value*> valuesOf(const ir::Model& model, const std::map<std::string, std::string>& names) {
    std::vector<const ir::Value*> values;
    for (const auto& [key, name] : names) values.push_back(model.graph().find(name));
    return values;
}

/// Compares the gradient of Σ c·y by the value `h`, which the model computes from its feeds.
void checkGradient(const ir::Model& model, const exec::Feeds& feeds, std::uint64_t seed = 1) {
    Random random(seed, "gradient test");
    std::vector<std::string> outputs;
    for (const ir::Value* output : model.graph().outputs()) outputs.push_back(output->name());
    const SeenValues seen = seenValues(model, feeds);
    REQUIRE(whyNoGradients(model, outputs, {"h"}, seen).empty());
    const GradientModel backward = withGradients(model, outputs, {"h"}, seen);
    REQUIRE(backward.gradients.size() == 1);

    exec::Feeds all = feeds;
    std::map<std::string, Tensor> factors;
    for (const auto& [output, cotangent] : backward.cotangents) {
        factors[output] = randomTensor(seen.at(output).shape, random, -1, 1);
        all[cotangent] = factors[output];
    }
    exec::Executor both(backward.model, {.inputs = valuesOf(backward.model, backward.cotangents), .outputs = valuesOf(backward.model, backward.gradients)});
    const Tensor gradient = both.run(all)[0];
    REQUIRE(gradient.shape() == seen.at("h").shape);

    const ir::Value* h = model.graph().find("h");
    exec::Executor start(model, {.outputs = std::vector<const ir::Value*>{h}});
    exec::Executor rest(model, {.inputs = {h}});
    const Tensor at = start.run(feeds)[0];
    const auto numberAt = [&](const Tensor& value) {
        exec::Feeds moved = feeds;
        moved["h"] = value;
        const std::vector<Tensor> results = rest.run(moved);
        double sum = 0;
        for (std::size_t i = 0; i < results.size(); ++i)
            if (factors.contains(outputs[i])) sum += dot(factors.at(outputs[i]), results[i]);
        return sum;
    };
    constexpr float kStep = 4e-3F;
    for (int direction = 0; direction < 4; ++direction) {
        const Tensor along = randomTensor(at.shape(), random, -1, 1);
        Tensor up = at, down = at;
        for (std::size_t i = 0; i < along.data<float>().size(); ++i) {
            up.mutableData<float>()[i] += kStep * along.data<float>()[i];
            down.mutableData<float>()[i] -= kStep * along.data<float>()[i];
        }
        const double slope = (numberAt(up) - numberAt(down)) / (2 * static_cast<double>(kStep));
        const double size = std::sqrt(dot(gradient, gradient) * dot(along, along));
        INFO("slope " << slope << ", gradient says " << dot(gradient, along));
        CHECK(std::abs(dot(gradient, along) - slope) < 2e-3 * size + 1e-4);
        CHECK(size > 0);
    }
}

std::string graphOf(const std::string& body, const std::string& initializers = "", int opset = 17) {
    return "<ir_version: 8, opset_import: [\"\" : " + std::to_string(opset) + ", \"com.microsoft\" : 1]>\n" +
           "g (float[2,3,4] x, float[2,3,4] z) => (float[n,m,k] y)\n<" + initializers + ">\n{ h = Identity (x)\n" + body + "\n}";
}

exec::Feeds feedsOf(double low = 0.3, double high = 1.7) {
    Random random(7, "feeds");
    return {{"x", randomTensor({2, 3, 4}, random, low, high)}, {"z", randomTensor({2, 3, 4}, random, low, high)}};
}

}  // namespace

TEST_CASE("Gradients of operators on elements are the slopes of their results", "[train]") {
    const auto [body, low] = GENERATE(table<std::string, double>({
        {"y = Add (h, z)", -1}, {"y = Sub (z, h)", -1}, {"y = Mul (h, z)", -1}, {"y = Mul (h, h)", -1},
        {"y = Div (h, z)", 0.5}, {"y = Div (z, h)", 0.5}, {"y = Neg (h)", -1}, {"y = Reciprocal (h)", 0.5},
        {"y = Sqrt (h)", 0.5}, {"y = Exp (h)", -1}, {"y = Log (h)", 0.5}, {"y = Abs (h)", 0.1}, {"y = Erf (h)", -1},
        {"y = Tanh (h)", -1}, {"y = Sigmoid (h)", -1}, {"y = Softplus (h)", -1}, {"y = Relu (h)", 0.1},
        {"n0 = Neg (h) y = LeakyRelu <alpha = 0.3> (n0)", 0.1},
        {"y = com.microsoft.Gelu (h)", -1.5}, {"y = com.microsoft.QuickGelu (h)", -1.5}, {"y = com.microsoft.FastGelu (h)", -1.5},
        {"c = Constant <value = float {2}> () y = Pow (h, c)", -1}, {"c = Constant <value = float {3}> () y = Pow (h, c)", 0.2},
        {"c = Constant <value = float {0.5}> () y = Pow (h, c)", 0.5},
        {"y = Max (h, z)", -1}, {"y = Min (z, h)", -1},
        {"a = Constant <value = float {-0.2}> () b = Constant <value = float {0.6}> () y = Clip (h, a, b)", -1},
        {"c = Greater (z, h) d = Mul (h, h) y = Where (c, d, z)", -1}, {"c = Greater (z, x) d = Mul (h, h) y = Where (c, z, d)", -1},
        {"a = Exp (h) b = Sigmoid (h) c = Mul (a, b) y = Add (c, h)", -1},
    }));
    INFO(body);
    checkGradient(test::modelFromText(graphOf(body)), feedsOf(low));
}

TEST_CASE("Gradients of operands that are repeated are summed over what was made of them", "[train]") {
    const std::string body = GENERATE("m = ReduceMean <axes = [2]> (h) y = Mul (m, z)", "m = ReduceMean <axes = [0, 1]> (h) y = Sub (z, m)",
                                      "m = ReduceMean <axes = [0], keepdims = 0> (h) y = Div (z, m)",
                                      "m = ReduceMean <axes = [0, 1], keepdims = 0> (h) y = Add (z, m)",
                                      "m = ReduceMean <axes = [1]> (h) s = Shape (z) y = Expand (m, s)");
    INFO(body);
    checkGradient(test::modelFromText(graphOf(body)), feedsOf());
}

TEST_CASE("Gradients of operators that move elements move back", "[train]") {
    const auto [body, opset] = GENERATE(table<std::string, int>({
        {"s = Constant <value_ints = [6, 4]> () y = Reshape (h, s)", 17}, {"y = Flatten (h)", 17}, {"y = Transpose <perm = [2, 0, 1]> (h)", 17},
        {"y = Transpose (h)", 17}, {"a = Constant <value_ints = [1]> () u = Unsqueeze (h, a) y = Squeeze (u, a)", 17},
        {"u = Unsqueeze <axes = [1]> (h) y = Squeeze <axes = [1]> (u)", 12}, {"y = Concat <axis = 2> (h, z, h)", 17},
        {"y = Concat <axis = -2> (z, h)", 17}, {"s = Constant <value_ints = [1, 3]> () a, b = Split <axis = -1> (h, s) y = Mul (a, b)", 17},
        {"a, y = Split <axis = -1> (h)", 17}, {"a, b = Split <axis = 2, split = [2, 2]> (h) y = Mul (a, b)", 12},
        {"b = Constant <value_ints = [1, 0]> () e = Constant <value_ints = [3, -1]> () a = Constant <value_ints = [2, 1]> () y = Slice (h, b, e, a)", 17},
        {"b = Constant <value_ints = [-2]> () e = Constant <value_ints = [9223372036854775807]> () a = Constant <value_ints = [-1]> () y = Slice (h, b, e, a)", 17},
        {"i = Constant <value_int = 1> () g0 = Gather <axis = 1> (h, i) a = Constant <value_ints = [1]> () u = Unsqueeze (g0, a) y = Mul (u, z)", 17},
        {"i = Constant <value_int = -1> () g0 = Gather <axis = 0> (h, i) y = Mul (g0, g0)", 17},
        {"i = Constant <value_ints = [1, 2]> () y = Gather <axis = 2> (h, i)", 17},
    }));
    INFO(body);
    checkGradient(test::modelFromText(graphOf(body, "", opset)), feedsOf());
}

TEST_CASE("Gradients of products are products with the other operand", "[train]") {
    const std::string body = GENERATE(
        "y = MatMul (h, w)", "y = MatMul (v, h)", "t = Transpose <perm = [0, 2, 1]> (h) y = MatMul (t, z)", "t = Transpose <perm = [0, 2, 1]> (z) y = MatMul (h, t)",
        "y = com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (h, z)", "y = com.microsoft.FusedMatMul <transA = 1> (z, h)",
        "y = com.microsoft.FusedMatMul <transA = 1, transB = 1> (h, v)",
        "t = Transpose <perm = [0, 2, 1]> (h) y = MatMul (h, t)",
        "s = Constant <value_ints = [6, 4]> () m = Reshape (h, s) y = Gemm <alpha = 0.5, beta = 2.0> (m, w, b)",
        "s = Constant <value_ints = [6, 4]> () m = Reshape (h, s) y = Gemm <transA = 1, transB = 1> (m, u, c)",
        "s = Constant <value_ints = [6, 4]> () m = Reshape (h, s) y = Gemm <transB = 1> (w2, m)",
"m = ReduceMean <axes = [0, 1], keepdims = 0> (h) s = Constant <value_ints = [6, 4]> () r = Reshape (z, s) y = Gemm (r, w4, m)");
    INFO(body);
    checkGradient(test::modelFromText(graphOf(body, "float[4,5] w, float[3,3] v, float[5] b, float[5,6] u, float[5] c, float[5,4] w2, float[4,4] w4")), feedsOf());
}

TEST_CASE("Gradients of reductions and normalizations are the slopes of their results", "[train]") {
    const auto [body, opset] = GENERATE(table<std::string, int>({
        {"y = ReduceSum <keepdims = 1> (h)", 17}, {"a = Constant <value_ints = [-1]> () r = ReduceSum <keepdims = 0> (h, a) y = Mul (r, r)", 17},
        {"r = ReduceSum <axes = [1]> (h) y = Mul (r, h)", 12}, {"r = ReduceMean <axes = [2], keepdims = 0> (h) y = Exp (r)", 17},
        {"a = Constant <value_ints = [2]> () r = ReduceMean (h, a) y = Mul (r, h)", 18},
        {"y = ReduceL2 <axes = [2]> (h)", 17}, {"r = ReduceSumSquare <axes = [1], keepdims = 0> (h) y = Sqrt (r)", 17},
        {"y = Softmax <axis = 1> (h)", 17}, {"y = Softmax <axis = 2> (h)", 12}, {"y = LogSoftmax (h)", 17},
        {"y = LayerNormalization <epsilon = 0.01> (h, s, t)", 17}, {"y = LayerNormalization <axis = 1> (h, s2)", 17},
        {"y = SimplifiedLayerNormalization <axis = -1, epsilon = 0.01> (h, s)", 17},
        {"y = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (h, z, s, t, s)", 17},
        {"y1, , , q = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (z, h, s) p = Mul (q, q) y = Add (y1, p)", 17},
        {"y = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 0.01> (h, h, s)", 17},
        {"y = com.microsoft.BiasGelu (h, s)", 17},
    }));
    INFO(body);
    checkGradient(test::modelFromText(graphOf(body, "float[4] s, float[4] t, float[3,4] s2", opset)), feedsOf(-1));
}

TEST_CASE("Gradients of weights, gains and biases are the slopes of what all rows make of them", "[train]") {
    const std::string body = GENERATE(
        "y = MatMul (z, t)", "y = com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (z, m)", "y = LayerNormalization <epsilon = 0.01> (z, v, v)",
        "y = SimplifiedLayerNormalization <axis = -1, epsilon = 0.01> (z, v)", "y = com.microsoft.SkipLayerNormalization <epsilon = 0.01> (z, x, v, v, v)",
        "y = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 0.01> (z, x, v, v)", "y = com.microsoft.BiasGelu (z, v)");
    INFO(body);
    checkGradient(test::modelFromText(graphOf("m = ReduceMean <axes = [0], keepdims = 0> (h) t = Transpose (m) v = ReduceMean <axes = [0, 1], keepdims = 0> (h)\n" + body)),
                  feedsOf(-1));
}

TEST_CASE("The gradient of attention with a mask and a feed-forward layer is the slope of their result", "[train]") {
    checkGradient(test::modelFromText(graphOf(R"(
        q = MatMul (h, wq) k = MatMul (h, wk) v = MatMul (h, wv)
        sh = Constant <value_ints = [0, 0, 2, 2]> ()
        q4 = Reshape (q, sh) k4 = Reshape (k, sh) v4 = Reshape (v, sh)
        qh = Transpose <perm = [0, 2, 1, 3]> (q4) kh = Transpose <perm = [0, 2, 3, 1]> (k4) vh = Transpose <perm = [0, 2, 1, 3]> (v4)
        s = MatMul (qh, kh) mask = Constant <value_floats = [0.0, 0.0, -10000.0]> () m = Add (s, mask) p = Softmax <axis = -1> (m)
        c = MatMul (p, vh) ct = Transpose <perm = [0, 2, 1, 3]> (c) back = Constant <value_ints = [0, 0, 4]> () cf = Reshape (ct, back)
        o = MatMul (cf, wo) r = Add (h, o) n0 = LayerNormalization (r, g0, b0)
        u = MatMul (n0, w1) half = Constant <value = float {0.70710678}> () e0 = Mul (u, half) e1 = Erf (e0) one = Constant <value = float {1}> () e2 = Add (e1, one)
        e3 = Mul (u, e2) d = MatMul (e3, w2) y = Add (n0, d))",
                                              "float[4,4] wq, float[4,4] wk, float[4,4] wv, float[4,4] wo, float[4] g0, float[4] b0, float[4,8] w1, float[8,4] w2")),
                  feedsOf(-1));
}

TEST_CASE("An operator without a rule is named", "[train]") {
    const ir::Model model = test::modelFromText(graphOf("c = CumSum (h, a) y = Mul (c, z)", "int32 a = {1}"));
    const SeenValues seen = seenValues(model, feedsOf());
    CHECK(whyNoGradients(model, {"y"}, {"h"}, seen).find("(CumSum) has no rule") != std::string::npos);
    CHECK_THROWS_AS(withGradients(model, {"y"}, {"h"}, seen), PassError);
    const ir::Model old = test::modelFromText(graphOf("y = Exp (h)", "", 10));
    CHECK(whyNoGradients(old, {"y"}, {"h"}, seenValues(old, feedsOf())).find("before opset 11; this one has 10") != std::string::npos);
}

TEST_CASE("What no output depends on has no gradient, and is in nobody's way", "[train]") {
    const ir::Model model = test::modelFromText(graphOf("c = CumSum (h, a) y = Exp (z)", "int32 a = {1}"));
    const GradientModel backward = withGradients(model, {"y"}, {"h"}, seenValues(model, feedsOf()));
    CHECK(backward.gradients.empty());
    CHECK(backward.cotangents.empty());
}

}  // namespace tcompress::train
