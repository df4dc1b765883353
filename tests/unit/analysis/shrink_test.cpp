// What shrink() refuses, and that a refusal changes nothing.

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "lib/support/error.h"
#include "tests/unit/analysis/cut_check.h"
#include "tests/unit/analysis/tiny_transformer.h"

namespace tcompress::analysis {
namespace {

std::string bytesOf(const ir::Model& model) {
    return ir::modelToProto(model, ir::WeightData::embed).SerializeAsString();
}

/// The message of the refusal; the model must be untouched.
std::string refusal(ir::Model& model, const KeepMasks& keep) {
    const std::string before = bytesOf(model);
    const std::uint64_t revision = model.revision();
    std::string message;
    try {
        shrink(model, analyseAxes(model), keep, "test");
    } catch (const PassError& error) {
        message = error.what();
    }
    CHECK(bytesOf(model) == before);
    CHECK(model.revision() == revision);
    CHECK_FALSE(message.empty());
    return message;
}

/// Pre-norm blocks with something done to the context [B, S, H, d] of each attention layer before it is
/// projected.
ir::Model withContext(const std::function<std::string(GraphText&, const std::string&)>& change,
                      bool showWeights = false) {
    GraphText g;
    const TinyOptions o;
    std::string x = g.input("float[b, s, 16]", "x");
    for (int layer = 0; layer < 2; ++layer) {
        const std::string n = g.layerNorm(x, 16);
        const auto head = [&](const char* name) {
            const std::string rows = g.linear(n, fmt::format("{}{}", name, layer), 16, 16);
            return g.transpose(g.reshape(rows, {0, 0, 4, 4}), "0, 2, 1, 3");
        };
        const std::string q = head("q"), k = head("k"), v = head("v");
        const std::string weights =
            g.softmax(g.scaled(g.node(fmt::format("MatMul({}, {})", q, g.transpose(k, "0, 1, 3, 2"))), 0.5F));
        if (showWeights) g.output("float[b, 4, s, s]", weights);
        const std::string context =
            g.transpose(g.node(fmt::format("MatMul({}, {})", weights, v)), "0, 2, 1, 3");
        const std::string rows = g.reshape(change(g, context), {0, 0, 16});
        x = g.node(fmt::format("Add({}, {})", x, g.linear(rows, fmt::format("o{}", layer), 16, 16)));
    }
    g.output("float[b, s, 16]", x);
    return g.model();
}

KeepMasks twoHeads(const TransformerView& view) {
    return {{view.attention.at(0).groupLeaf, {true, false, true, false}}};
}

TEST_CASE("a sum over heads is refused") {
    ir::Model model = withContext([](GraphText& g, const std::string& context) {
        const std::string mean = g.node(fmt::format("ReduceMean <axes = [2], keepdims = 1> ({})", context));
        return g.node(fmt::format("Sub({}, {})", context, mean));
    });
    const TransformerView view = recognise(model);
    REQUIRE(view.attention.size() == 2);
    CHECK_FALSE(view.attention[0].refusals.empty());
    CHECK(refusal(model, twoHeads(view)).find("averaged") != std::string::npos);
}

TEST_CASE("attention weights that are a graph output are refused") {
    ir::Model model = withContext([](GraphText&, const std::string& context) { return context; }, true);
    const TransformerView view = recognise(model);
    REQUIRE(view.attention.size() == 2);
    CHECK_FALSE(view.attention[0].refusals.empty());
    CHECK(refusal(model, twoHeads(view)).find("graph output") != std::string::npos);
}

TEST_CASE("heads that an unknown operator sees are refused") {
    ir::Model model = withContext([](GraphText& g, const std::string& context) {
        return g.node(fmt::format("com.microsoft.Mystery({})", context));
    });
    const TransformerView view = recognise(model);
    CHECK_FALSE(view.notRecognised.empty());
    // Without a shape behind the unknown operator no projection takes the context: nothing is recognised,
    // nothing is cut.
    CHECK(view.attention.empty());
}

TEST_CASE("heads picked by position are refused") {
    ir::Model model = withContext([](GraphText& g, const std::string& context) {
        const std::string order = g.ints("order_" + context, {4}, {1, 0, 3, 2});
        return g.node(fmt::format("Gather <axis = 2> ({}, {})", context, order));
    });
    const TransformerView view = recognise(model);
    REQUIRE(view.attention.size() == 2);
    CHECK_FALSE(view.attention[0].refusals.empty());
    CHECK(refusal(model, twoHeads(view)).find("indexed") != std::string::npos);
}

TEST_CASE("removing everything, or with a mask of another size, is refused") {
    ir::Model model = preNorm(plainAttention);
    const TransformerView view = recognise(model);
    const AtomId leaf = view.attention[0].groupLeaf;
    CHECK(refusal(model, {{leaf, {false, false, false, false}}}).find("nothing would be left") !=
          std::string::npos);
    CHECK(refusal(model, {{leaf, {true, false, true}}}).find("mask of 3") != std::string::npos);
}

TEST_CASE("a mask that keeps everything changes nothing") {
    ir::Model model = preNorm(plainAttention);
    const TransformerView view = recognise(model);
    const std::string before = bytesOf(model);
    const ShrinkReport report =
        shrink(model, *view.axes, {{view.attention[0].groupLeaf, {true, true, true, true}}}, "test");
    CHECK(report.weightsCut == 0);
    CHECK(bytesOf(model) == before);
}

TEST_CASE("values that a sub-graph captures are not cut") {
    GraphText g;
    const TinyOptions o;
    std::string x = g.input("float[b, s, 16]", "x");
    const std::string flag = g.input("bool", "flag");
    for (int layer = 0; layer < 2; ++layer) {
        const std::string n = g.layerNorm(x, 16);
        x = g.node(fmt::format("Add({}, {})", x, plainAttention(g, n, o, layer)));
        const std::string up =
            g.node(fmt::format("Relu({})", g.linear(g.layerNorm(x, 16), fmt::format("up{}", layer), 16, 24)));
        const std::string branch = g.node(fmt::format(
            "If <then_branch = yes_{0} () => (float[b, s, 24] t_{0}) {{ t_{0} = Mul({1}, {1}) }}, "
            "else_branch = no_{0} () => (float[b, s, 24] e_{0}) {{ e_{0} = Identity({1}) }}> ({2})",
            layer, up, flag));
        const std::string both = g.node(fmt::format("Add({}, {})", up, branch));
        x = g.node(fmt::format("Add({}, {})", x, g.linear(both, fmt::format("down{}", layer), 24, 16)));
    }
    g.output("float[b, s, 16]", x);
    ir::Model model = g.model();
    const ModelAxes axes = analyseAxes(model);
    const ir::Value* weight = model.graph().find("up0");
    const AtomId leaf = axes.store->leaves(axes.axes.at(weight)[1]).front();
    std::vector<bool> mask(24, true);
    mask[3] = false;
    CHECK_FALSE(shrinkRefusals(model, axes, {{leaf, mask}}).empty());
    CHECK(refusal(model, {{leaf, mask}}).find("sub-graph") != std::string::npos);
    // The heads are not captured and may go.
    const TransformerView view = recognise(model);
    for (const Unrecognised& missing : view.notRecognised)
        UNSCOPED_INFO(missing.place << ": " << missing.reason);
    REQUIRE(view.attention.size() == 2);
    shrink(model, analyseAxes(model), twoHeads(view), "test");
    CHECK(recognise(model).attention[0].heads == 2);
}

TEST_CASE("the same cut gives the same bytes") {
    std::string first;
    for (int run = 0; run < 3; ++run) {
        ir::Model model = preNorm(plainAttention);
        const TransformerView view = recognise(model);
        Random random(2, "determinism");
        shrink(model, *view.axes, randomHalf(view, random, true, true), "test");
        if (run == 0) first = bytesOf(model);
        CHECK(bytesOf(model) == first);
    }
}

TEST_CASE("a cut can follow a cut") {
    ir::Model model = preNorm(plainAttention);
    for (std::int64_t heads = 4; heads > 1; --heads) {
        const TransformerView view = recognise(model);
        REQUIRE(view.attention[1].heads == heads);
        std::vector<bool> mask(static_cast<std::size_t>(heads), true);
        mask[static_cast<std::size_t>(heads) / 2] = false;
        shrink(model, *view.axes, {{view.attention[1].groupLeaf, mask}}, "test");
    }
    const TransformerView view = recognise(model);
    CHECK(view.attention[0].heads == 4);
    CHECK(view.attention[1].heads == 1);
    CHECK_FALSE(view.attention[1].refusals.empty());
}

}  // namespace
}  // namespace tcompress::analysis
