#include "lib/analysis/concretise.h"

#include <catch2/catch.hpp>

#include "lib/analysis/cost.h"
#include "lib/analysis/transformer_view.h"
#include "lib/ir/load.h"

namespace tcompress::analysis {
namespace {

ir::Model graph(const std::string& inputs, const std::string& output, const std::string& constants,
                const std::string& body, int opset = 17) {
    return ir::fromText("<ir_version: 10, opset_import: [\"\" : " + std::to_string(opset) +
                        ", \"com.microsoft\" : 1]>\ng (" + inputs + ") => (" + output + ")\n<" + constants +
                        ">\n{\n" + body + "\n}\n");
}

Shape shapeOf(const ir::Model& model, const std::string& value, const ProbeSizes& sizes = {}) {
    const auto shape = concretise(model, sizes).shape(*model.graph().find(value));
    REQUIRE(shape.has_value());
    return *shape;
}

std::vector<std::int64_t> valueOf(const ir::Model& model, const std::string& value) {
    const auto tensor = concretise(model).value(*model.graph().find(value));
    REQUIRE(tensor.has_value());
    return toInt64(*tensor);
}

TEST_CASE("dimensions get sizes by their names and places") {
    const ir::Model model = graph(
        "float[batch, sequence, 4] a, float[batch, past_sequence] b, int64[batch, total_sequence] c, "
        "float[N, 3, H, W] e, float[batch, encoder_sequence] f, "
        "float[batch, decoder_sequence] g",
        "float[batch, sequence, 4] y", "", "y = Identity(a)");
    const auto shapes = concretise(model).inputShapes();
    CHECK(shapes.at("a") == Shape{2, 11, 4});
    CHECK(shapes.at("b") == Shape{2, 3});
    CHECK(shapes.at("c") == Shape{2, 14});
    CHECK(shapes.at("e") == Shape{2, 3, 48, 320});
    CHECK(shapes.at("f") == Shape{2, 13});
    CHECK(shapes.at("g") == Shape{2, 11});
    CHECK(concretise(model, {{"batch", 5}, {"a:1", 6}}).inputShapes().at("a") == Shape{5, 6, 4});
    CHECK(referenceShapes(model, 32).shapes.inputShapes().at("a") == Shape{1, 32, 4});
}

TEST_CASE("shape arithmetic is followed") {
    const ir::Model model = graph("float[b, s, 12] x", "float[b, n, s, m] y",
                                  "int64 one = {1}, int64 two = {2}, int64[1] zero1 = {0}, int64[1] minus = "
                                  "{-1}, int64[1] three = {3}, int64[3] pick = {2, 0, 1}",
                                  "shape = Shape(x)\n batch = Gather(shape, zero1)\n length = Gather(shape, "
                                  "one)\n length1 = Unsqueeze(length, zero1)\n"
                                  "target = Concat <axis = 0> (batch, length1, three, minus)\n r = "
                                  "Reshape(x, target)\n y = Transpose <perm = [0, 2, 1, 3]> (r)\n"
                                  "doubled = Mul(length, two)\n limit = Add(doubled, one)\n row = Range(one, "
                                  "limit, two)\n turned = Gather(shape, pick)\n"
                                  "half = Div(limit, two)\n is = Equal(half, length)\n chosen = Where(is, "
                                  "half, limit)\n filled = ConstantOfShape(turned)\n"
                                  "tail = Slice(shape, minus, three)\n real = Cast <to = 1> (tail)\n root = "
                                  "Sqrt(real)\n prod = ReduceProd <keepdims = 0> (shape)");
    CHECK(shapeOf(model, "y") == Shape{2, 3, 11, 4});
    CHECK(valueOf(model, "target") == std::vector<std::int64_t>{2, 11, 3, -1});
    CHECK(valueOf(model, "row") == std::vector<std::int64_t>{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21});
    CHECK(valueOf(model, "turned") == std::vector<std::int64_t>{12, 2, 11});
    CHECK(valueOf(model, "half") == std::vector<std::int64_t>{11});
    CHECK(valueOf(model, "chosen") == std::vector<std::int64_t>{11});
    CHECK(valueOf(model, "tail") == std::vector<std::int64_t>{12});
    CHECK(valueOf(model, "prod") == std::vector<std::int64_t>{264});
    CHECK(shapeOf(model, "filled") == Shape{12, 2, 11});
    CHECK(toFloat32(*concretise(model).value(*model.graph().find("root")))[0] == Approx(std::sqrt(12.0F)));
    CHECK(shapeOf(model, "y", {{"s", 1}}) == Shape{2, 3, 1, 4});
}

TEST_CASE("what depends on input data stays open") {
    const ir::Model model = graph("float[b, s] x, int64[2] wanted", "float[p, q] y", "",
                                  "y = Reshape(x, wanted)\n k = NonZero(x)\n m = Relu(y)");
    const ConcreteShapes shapes = concretise(model);
    CHECK_FALSE(shapes.shape(*model.graph().find("y")).has_value());
    CHECK_FALSE(shapes.shape(*model.graph().find("m")).has_value());
    CHECK_FALSE(shapes.value(*model.graph().find("wanted")).has_value());
}

TEST_CASE("an operator that nobody knows leaves what is declared") {
    const ir::Model model =
        graph("float[b, s] x", "float[3, 4] y", "", "y = com.microsoft.Mystery(x)\n z = Relu(y)");
    CHECK(shapeOf(model, "z") == Shape{3, 4});
}

TEST_CASE("cutting, joining and repeating") {
    const ir::Model model =
        graph("float[b, s, 10] x", "float[b, s, 10] y",
              "int64[1] from = {-3}, int64[1] far = {9223372036854775807}, int64[1] axis = {2}, int64[1] "
              "step = {2}, int64[1] back = {-1}, "
              "int64[1] low = {-9223372036854775808}, int64[3] times = {1, 2, 1}, int64[3] wide = {4, 1, 1}, "
              "int64[2] sizes = {3, 7}, "
              "int64[6] pads = {0, 1, 0, 0, 2, 0}",
              "y = Identity(x)\n last = Slice(x, from, far, axis)\n every = Slice(x, from, far, axis, "
              "step)\n reversed = Slice(x, back, low, axis, back)\n"
              "p, q = Split <axis = 2> (x, sizes)\n joined = Concat <axis = -1> (q, p, p)\n tiled = Tile(x, "
              "times)\n "
              "unit = Slice(x, back, far, axis)\n padded = Pad(x, pads)\n flat = Flatten <axis = 2> (x)");
    CHECK(shapeOf(model, "last") == Shape{2, 11, 3});
    CHECK(shapeOf(model, "every") == Shape{2, 11, 2});
    CHECK(shapeOf(model, "reversed") == Shape{2, 11, 10});
    CHECK(shapeOf(model, "q") == Shape{2, 11, 7});
    CHECK(shapeOf(model, "joined") == Shape{2, 11, 13});
    CHECK(shapeOf(model, "tiled") == Shape{2, 22, 10});
    CHECK(shapeOf(model, "padded") == Shape{2, 14, 10});
    CHECK(shapeOf(model, "flat") == Shape{22, 10});
}

/// Operands of all kinds, and a result that is said to be [4, 3].
ir::Model misfit(const std::string& body) {
    return graph(
        "float[2, 3] x, float[2] v, float start, float[1, 2, 3] t, float[2, 4, 8, 8] k", "float[4, 3] y",
        "int64[2] two = {0, 1}, int64[1] one = {0}, int64[1] four = {4}, int64[0] none = {}, int64[2] four4 = {4, "
        "4}, int64[2] zeros = {0, 0}, int64[1] less = {-4}, int64[2] back = {-2, 1}, int64[2] huge = "
        "{4611686018427387904, 4611686018427387904}, int64[1] least = {-9223372036854775808}, int64[4] pads = "
        "{-9, 0, 0, 0}, float limit = {1e30}, float step = {1e-30}, float depth = {1e30}, float[2] scales = "
        "{-1, 1e30}, float[3, 2] w = {1, 2, 3, 4, 5, 6}",
        body);
}

TEST_CASE("operands that do not fit their operator say nothing, and a declared shape holds no trap all the same") {
    const std::string body = GENERATE(
        "y = Concat <axis = 0> (x, v)", "y = Concat <axis = 1> (v, x)", "y = Slice(x, two, one, two)",
        "y = Slice(x, two, two, one)", "y = Slice(x, one, one, none)", "y = Slice(x, two, two, two, one)",
        "y = Slice(x, one, one, one, least)", "y = Slice(x, two, four4, zeros)",
        "y = Split <axis = 0> (x, four)", "y = Split <axis = 1> (v)", "y = Split <axis = 0> (x, less)",
        "y = Transpose <perm = [0, 7]> (x)", "y = Transpose <perm = [0, -7]> (x)",
        "y = Transpose <perm = [1, 1]> (x)", "y = Squeeze(x, one)", "y = Tile(x, back)",
        "y = Tile(x, huge)", "y = Pad(x, pads)", "y = Expand(x, back)",
        "y = Range(step, limit, step)", "y = OneHot(x, depth, two)", "y = GatherND(x, start)",
        "y = Resize(x, , scales)", "y = Conv(x, v)", "y = Conv <group = 0> (k, x)",
        "y = Conv <strides = [0, 0]> (k, k)", "y = MaxPool <kernel_shape = [0, 0], strides = [0, 0]> (k)",
        "y = DepthToSpace <blocksize = 0> (k)", "y = SpaceToDepth <blocksize = -4294967296> (k)",
        "y = com.microsoft.MatMulNBits <K = 3, N = -5> (x, one, scales)",
        "y = com.microsoft.MatMulNBits <K = 3, N = 3> (start, one, scales)",
        "y = com.microsoft.DynamicQuantizeMatMul(start, x, start)",
        "y = com.microsoft.EmbedLayerNormalization(x, x, x, start, start, start, start)",
        "y = com.microsoft.Attention <num_heads = 1, qkv_hidden_sizes = [-1, -1, -1]> (t, w, v)",
        "y = com.microsoft.GroupQueryAttention <num_heads = 9223372036854775806, kv_num_heads = "
        "4611686018427387905> (t)", "y = Einsum <equation = \"i,ij->j\"> (x, x)",
        "y = LSTM(t, v, v)",
        "u = Transpose <perm = [0, 7]> (w) y = MatMul(x, u)");
    CAPTURE(body);
    const ir::Model model = misfit(body);
    CHECK(shapeOf(model, "y") == Shape{4, 3});
    CHECK_NOTHROW(cost(model, recognise(model)));
}

TEST_CASE("operands of other ranks than the operator takes hold no trap") {
    const std::string body = GENERATE("y = Tile(v, one)",
                                      "y = Pad(v, two)",
                                      "y = GatherElements <axis = 0> (x, v)",
                                      "y = com.microsoft.SkipLayerNormalization(start, start, start)",
                                      "y = com.microsoft.MultiHeadAttention <num_heads = 1> (t, t, t, start)",
                                      "y = Einsum <equation = \",ij->ij\"> (depth, x)",
                                      "u = Identity(x) y = Max(one, one, one)");
    CAPTURE(body);
    const ir::Model model = misfit(body);
    CHECK_NOTHROW(cost(model, recognise(model)));
}

TEST_CASE("arithmetic that leaves the integers says nothing") {
    const std::string body = GENERATE("v = Div(least, minus)", "v = Mod(least, minus)", "v = Sub(least, two)",
                                      "v = Add(least, least)", "v = Mul(least, two)", "v = Neg(least)",
                                      "v = Abs(least)", "v = Pow(least, two)", "v = ReduceProd(many)",
                                      "v = ReduceSum(many)", "v = Div(two, zero)", "v = Mod(two, zero)");
    CAPTURE(body);
    const ir::Model model = graph("float[2, 3] x", "float[a, b] y",
                                  "int64[1] least = {-9223372036854775808}, int64[1] minus = {-1}, int64[1] two = "
                                  "{2}, int64[1] zero = {0}, int64[2] many = {-9223372036854775808, -3}",
                                  body + " y = Expand(x, v)");
    const auto value = concretise(model).value(*model.graph().find("v"));
    if (body.starts_with("v = Mod(least"))
        CHECK(toInt64(*value) == std::vector<std::int64_t>{0});
    else
        CHECK_FALSE(value.has_value());
    CHECK_NOTHROW(recognise(model));
}

TEST_CASE("declared sizes that no tensor has are not taken") {
    const ir::Model model =
        graph("float[-1, 4] x, float[4611686018427387904, 4] huge", "float[-3] y, float[7, 4] z", "",
              "y = com.example.Unknown(x) z = Identity(huge)");
    CHECK(shapeOf(model, "x") == Shape{2, 4});
    CHECK_FALSE(concretise(model).shape(*model.graph().find("y")).has_value());
    CHECK_FALSE(concretise(model).shape(*model.graph().find("huge")).has_value());
    CHECK_NOTHROW(recognise(model));
}

TEST_CASE("steps of any size are counted") {
    const std::string step = GENERATE("4611686018427387904", "9223372036854775807", "-9223372036854775807");
    CAPTURE(step);
    const ir::Model model = graph("float[2, 3] x", "float[n, m] y",
                                  "int64[1] from = {1}, int64[1] to = {" + std::string(step[0] == '-' ? "-9" : "3") +
                                      "}, int64[1] axis = {1}, int64[1] step = {" + step + "}",
                                  "y = Slice(x, from, to, axis, step)");
    CHECK(shapeOf(model, "y") == Shape{2, 1});
}

TEST_CASE("convolutions and pooling") {
    const ir::Model model = graph(
        "float[N, 4, 9, 12] x", "float[N, 6, 5, 6] y",
        "float[6, 4, 3, 3] w = {" +
            [] {
                std::string zeros = "0";
                for (int i = 1; i < 216; ++i) zeros += ", 0";
                return zeros;
            }() +
            "}",
        "y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)\n valid = Conv(x, w)\n same = Conv "
        "<auto_pad = \"SAME_UPPER\", strides = [2, 2]> (x, w)\n"
        "dilated = Conv <dilations = [2, 2]> (x, w)\n ceiled = MaxPool <kernel_shape = [2, 2], strides = [2, "
        "2], ceil_mode = 1> (x)\n"
        "global = GlobalAveragePool(x)");
    CHECK(shapeOf(model, "y") == Shape{2, 6, 5, 6});
    CHECK(shapeOf(model, "valid") == Shape{2, 6, 7, 10});
    CHECK(shapeOf(model, "same") == Shape{2, 6, 5, 6});
    CHECK(shapeOf(model, "dilated") == Shape{2, 6, 5, 8});
    CHECK(shapeOf(model, "ceiled") == Shape{2, 4, 5, 6});
    CHECK(shapeOf(model, "global") == Shape{2, 4, 1, 1});
}

TEST_CASE("values under imposed shapes") {
    const ir::Model model = graph("float[b, s, 12] x", "int64[3] shape", "int64 last = {2}",
                                  "shape = Shape(x)\n width = Gather(shape, last)");
    const ConcreteShapes cut = evaluateValues(model, [&](const ir::Value& value) -> std::optional<Shape> {
        if (value.name() == "x") return Shape{2, 11, 8};
        return concretise(model).shape(value);
    });
    CHECK(toInt64(*cut.value(*model.graph().find("width"))) == std::vector<std::int64_t>{8});
}

}  // namespace
}  // namespace tcompress::analysis
