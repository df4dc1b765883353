// Recognition and cutting over the ways in which exporters write attention and feed-forward layers: the
// figures are right and the cut model equals the masked one.

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "tests/unit/analysis/cut_check.h"
#include "tests/unit/analysis/style_check.h"
#include "tests/unit/analysis/tiny_transformer.h"

namespace tcompress::analysis {
namespace {

std::string fusedSplit(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string qkv = g.linear(x, layerName("qkv", layer), o.hidden, 3 * o.hidden);
    const auto parts = g.nodes(
        fmt::format("Split <axis = -1> ({}, {})", qkv, g.ints(layerName("sizes", layer), {3}, {16, 16, 16})),
        3);
    const auto head = [&](const std::string& t) {
        return g.transpose(g.reshape(t, {0, 0, o.heads, o.headDim}), "0, 2, 1, 3");
    };
    return attend(g, head(parts[0]), head(parts[1]), head(parts[2]), o, layer);
}

// timm: [B, S, 3, H, d] transposed to [3, B, H, S, d], picked by Gather.
std::string fusedFiveAxes(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string qkv = g.linear(x, layerName("qkv", layer), o.hidden, 3 * o.hidden);
    const std::string five = g.transpose(g.reshape(qkv, {0, -1, 3, o.heads, o.headDim}), "2, 0, 3, 1, 4");
    const auto pick = [&](std::int64_t i) {
        return g.node(fmt::format("Gather <axis = 0> ({}, {})", five,
                                  g.ints(fmt::format("pick{}_{}", layer, i), {}, {i})));
    };
    return attend(g, pick(0), pick(1), pick(2), o, layer);
}

// GPT-NeoX: heads outside, q k v inside.
std::string headsOutside(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string qkv = g.linear(x, layerName("qkv", layer), o.hidden, 3 * o.hidden);
    const std::string perHead = g.transpose(g.reshape(qkv, {0, 0, o.heads, 3 * o.headDim}), "0, 2, 1, 3");
    const auto parts = g.nodes(
        fmt::format("Split <axis = -1> ({}, {})", perHead, g.ints(layerName("sizes", layer), {3}, {4, 4, 4})),
        3);
    return attend(g, parts[0], parts[1], parts[2], o, layer);
}

std::string multiQuery(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    return attend(g, heads(g, x, layerName("q", layer), o, o.heads), heads(g, x, layerName("k", layer), o, 1),
                  heads(g, x, layerName("v", layer), o, 1), o, layer);
}

std::string groupedByExpand(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto repeat = [&](const char* name) {
        const std::string own = heads(g, x, layerName(name, layer), o, o.kvHeads);
        const std::string five = g.node(
            fmt::format("Unsqueeze({}, {})", own, g.ints(fmt::format("axis_{}{}", name, layer), {1}, {2})));
        const std::string shape =
            g.ints(fmt::format("to_{}{}", name, layer), {5}, {1, 1, o.heads / o.kvHeads, 1, 1});
        return g.reshape(g.node(fmt::format("Expand({}, {})", five, shape)), {0, o.heads, -1, o.headDim});
    };
    return attend(g, heads(g, x, layerName("q", layer), o, o.heads), repeat("k"), repeat("v"), o, layer);
}

std::string groupedByGather(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto repeat = [&](const char* name) {
        std::vector<std::int64_t> table;
        for (std::int64_t h = 0; h < o.heads; ++h) table.push_back(h / (o.heads / o.kvHeads));
        return g.node(fmt::format("Gather <axis = 1> ({}, {})",
                                  heads(g, x, layerName(name, layer), o, o.kvHeads),
                                  g.ints(fmt::format("table_{}{}", name, layer), {o.heads}, table)));
    };
    return attend(g, heads(g, x, layerName("q", layer), o, o.heads), repeat("k"), repeat("v"), o, layer);
}

// BART: batch and heads in one axis, the mask added in between.
std::string batchedHeads(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto flat = [&](const char* name) {
        const std::string own = heads(g, x, layerName(name, layer), o, o.heads);
        const std::string length = g.node(fmt::format("Shape <start = 2, end = 3> ({})", own));
        const std::string shape = g.node(fmt::format(
            "Concat <axis = 0> ({}, {}, {})", g.ints(fmt::format("m_{}{}", name, layer), {1}, {-1}), length,
            g.ints(fmt::format("d_{}{}", name, layer), {1}, {o.headDim})));
        return g.node(fmt::format("Reshape({}, {})", own, shape));
    };
    const std::string q = flat("q"), k = flat("k"), v = flat("v");
    std::string scores = g.scaled(g.node(fmt::format("MatMul({}, {})", q, g.transpose(k, "0, 2, 1"))), 0.5F);
    const std::string length = g.node(fmt::format("Shape <start = 1, end = 2> ({})", q));
    const auto concat = [&](const std::string& parts) {
        return g.node(fmt::format("Concat <axis = 0> ({})", parts));
    };
    const std::string minusOne = g.ints(layerName("minus", layer), {1}, {-1});
    const std::string count = g.ints(layerName("heads", layer), {1}, {o.heads});
    scores = g.node(fmt::format("Reshape({}, {})", scores,
                                concat(fmt::format("{}, {}, {}, {}", minusOne, count, length, length))));
    scores = g.node(fmt::format("Add({}, {})", scores,
                                g.node(fmt::format("ConstantOfShape({})", concat(length + ", " + length)))));
    scores = g.node(
        fmt::format("Reshape({}, {})", scores, concat(fmt::format("{}, {}, {}", minusOne, length, length))));
    const std::string context = g.node(fmt::format("MatMul({}, {})", g.softmax(scores), v));
    const std::string dim = g.ints(layerName("dim", layer), {1}, {o.headDim});
    const std::string four = g.node(fmt::format(
        "Reshape({}, {})", context, concat(fmt::format("{}, {}, {}, {}", minusOne, count, length, dim))));
    const std::string width = g.ints(layerName("width", layer), {1}, {o.hidden});
    const std::string rows = g.node(fmt::format("Reshape({}, {})", g.transpose(four, "0, 2, 1, 3"),
                                                concat(fmt::format("{}, {}, {}", minusOne, length, width))));
    return g.linear(rows, layerName("o", layer), o.hidden, o.hidden);
}

std::string byEinsum(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto head = [&](const char* name) {
        return g.node(fmt::format("Einsum <equation = \"bsi,ihd->bhsd\"> ({}, {})", x,
                                  g.weight(layerName(name, layer), {o.hidden, o.heads, o.headDim})));
    };
    const std::string q = head("q"), k = head("k"), v = head("v");
    const std::string scores =
        g.scaled(g.node(fmt::format("Einsum <equation = \"bhqd,bhkd->bhqk\"> ({}, {})", q, k)), 0.5F);
    const std::string context =
        g.node(fmt::format("Einsum <equation = \"bhqk,bhkd->bqhd\"> ({}, {})", g.softmax(scores), v));
    return g.node(fmt::format("Einsum <equation = \"bqhd,hdo->bqo\"> ({}, {})", context,
                              g.weight(layerName("o", layer), {o.heads, o.headDim, o.hidden})));
}

// Rotary embedding over pairs (even, odd), with constant angles.
std::string interleavedRotary(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto rotate = [&](const std::string& t, const std::string& name) {
        const auto every = [&](std::int64_t start) {
            const std::string tag = fmt::format("{}{}_{}", name, layer, start);
            return g.node(fmt::format("Slice({}, {}, {}, {}, {})", t, g.ints("begin_" + tag, {1}, {start}),
                                      g.ints("end_" + tag, {1}, {INT64_MAX}), g.ints("axis_" + tag, {1}, {3}),
                                      g.ints("step_" + tag, {1}, {2})));
        };
        const auto pair = [&](const std::string& half) {
            return g.node(fmt::format("Unsqueeze({}, {})", half,
                                      g.ints(fmt::format("last_{}{}{}", name, layer, half), {1}, {4})));
        };
        const std::string even = every(0), odd = every(1);
        const std::string turned = g.node(
            fmt::format("Concat <axis = 4> ({}, {})", pair(g.node(fmt::format("Neg({})", odd))), pair(even)));
        return g.node(fmt::format("Add({}, {})", t, g.scaled(g.reshape(turned, {0, 0, 0, o.headDim}), 0.3F)));
    };
    const std::string q = rotate(heads(g, x, layerName("q", layer), o, o.heads), "q");
    const std::string k = rotate(heads(g, x, layerName("k", layer), o, o.heads), "k");
    return attend(g, q, k, heads(g, x, layerName("v", layer), o, o.heads), o, layer);
}

// A slope per head, a constant, times a number per key (ALiBi); and a constant temperature per head.
std::string slopePerHead(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string keys = g.node(fmt::format("ReduceMean <axes = [2], keepdims = 0> ({})", x));
    const std::string wide =
        g.node(fmt::format("Unsqueeze({}, {})", keys, g.ints(layerName("wide", layer), {2}, {1, 2})));
    const std::string slopes = g.weight(layerName("slopes", layer), {1, o.heads, 1, 1}, 5.0);
    const std::string bias = g.node(fmt::format("Mul({}, {})", slopes, wide));
    const std::string q = heads(g, x, layerName("q", layer), o, o.heads);
    const std::string temperature = g.weight(layerName("temperature", layer), {1, o.heads, 1, 1}, 1.0);
    return attend(g, g.node(fmt::format("Mul({}, {})", q, temperature)),
                  heads(g, x, layerName("k", layer), o, o.heads),
                  heads(g, x, layerName("v", layer), o, o.heads), o, layer, bias);
}

// Heads normalized one by one (query and key norm).
std::string normedHeads(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto normed = [&](const char* name) {
        return g.layerNorm(heads(g, x, layerName(name, layer), o, o.heads), o.headDim);
    };
    const std::string q = normed("q"), k = normed("k");
    return attend(g, q, k, heads(g, x, layerName("v", layer), o, o.heads), o, layer);
}

// The scale is computed from the head size of the queries while the model runs.
std::string computedScale(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string q = heads(g, x, layerName("q", layer), o, o.heads);
    const std::string dim =
        g.node(fmt::format("Cast <to = 1> ({})", g.node(fmt::format("Shape <start = 3, end = 4> ({})", q))));
    const std::string scale = g.node(fmt::format("Sqrt({})", dim));
    return attend(g, g.node(fmt::format("Div({}, {})", q, scale)),
                  heads(g, x, layerName("k", layer), o, o.heads),
                  heads(g, x, layerName("v", layer), o, o.heads), o, layer);
}

std::string gated(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string gate =
        g.node(fmt::format("MatMul({}, {})", x, g.weight(layerName("gate", layer), {o.hidden, o.width})));
    const std::string up =
        g.node(fmt::format("MatMul({}, {})", x, g.weight(layerName("up", layer), {o.hidden, o.width})));
    const std::string silu =
        g.node(fmt::format("Mul({}, {})", gate, g.node(fmt::format("Sigmoid({})", gate))));
    return g.node(fmt::format("MatMul({}, {})", g.node(fmt::format("Mul({}, {})", silu, up)),
                              g.weight(layerName("down", layer), {o.width, o.hidden})));
}

std::string gatedInOne(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string both = g.linear(x, layerName("both", layer), o.hidden, 2 * o.width);
    const auto parts = g.nodes(fmt::format("Split <axis = -1> ({}, {})", both,
                                           g.ints(layerName("halves", layer), {2}, {o.width, o.width})),
                               2);
    const std::string silu =
        g.node(fmt::format("Mul({}, {})", parts[0], g.node(fmt::format("Sigmoid({})", parts[0]))));
    return g.linear(g.node(fmt::format("Mul({}, {})", silu, parts[1])), layerName("down", layer), o.width,
                    o.hidden);
}

// Weights stored transposed as int8 with a scale per output channel, dequantized while the model runs.
std::string dequantized(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto weight = [&](const char* name, std::int64_t in, std::int64_t out) {
        const std::string integer =
            g.node(fmt::format("Cast <to = 3> ({})", g.weight(layerName(name, layer), {out, in}, 40)));
        const std::string real =
            g.node(fmt::format("DequantizeLinear <axis = 0> ({}, {})", integer,
                               g.floats(fmt::format("scale_{}{}", name, layer), {out},
                                        std::vector<float>(static_cast<std::size_t>(out), 0.01F))));
        return g.transpose(real, "1, 0");
    };
    const std::string up = g.node(fmt::format("MatMul({}, {})", x, weight("up", o.hidden, o.width)));
    return g.node(fmt::format("MatMul({}, {})", g.node(fmt::format("Relu({})", up)),
                              weight("down", o.width, o.hidden)));
}

// Every projection as a product of two factors of rank 5, as low-rank compression leaves it.
std::string factored(GraphText& g, const std::string& x, const std::string& name, std::int64_t in,
                     std::int64_t out) {
    const std::string inner = g.node(fmt::format("MatMul({}, {})", x, g.weight(name + "_first", {in, 5})));
    const std::string both = g.node(fmt::format("MatMul({}, {})", inner, g.weight(name + "_last", {5, out})));
    return g.node(fmt::format("Add({}, {})", both, g.weight(name + "_bias", {out})));
}

std::string factoredAttention(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto head = [&](const char* name) {
        const std::string rows = factored(g, x, layerName(name, layer), o.hidden, o.hidden);
        return g.transpose(g.reshape(rows, {0, 0, o.heads, o.headDim}), "0, 2, 1, 3");
    };
    const std::string q = head("q"), k = head("k"), v = head("v");
    const std::string scores =
        g.scaled(g.node(fmt::format("MatMul({}, {})", q, g.transpose(k, "0, 1, 3, 2"))), 0.5F);
    const std::string context = g.node(fmt::format("MatMul({}, {})", g.softmax(scores), v));
    const std::string rows = g.reshape(g.transpose(context, "0, 2, 1, 3"), {0, 0, o.hidden});
    return factored(g, rows, layerName("o", layer), o.hidden, o.hidden);
}

std::string factoredFeedForward(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string up = factored(g, x, layerName("up", layer), o.hidden, o.width);
    return factored(g, g.node(fmt::format("Relu({})", up)), layerName("down", layer), o.width, o.hidden);
}

const Style kStyles[] = {
    {"separate projections", plainAttention, plainFeedForward, 4, false, ActivationKind::relu},
    {"fused projection and Split", fusedSplit, plainFeedForward, 4, false, ActivationKind::relu},
    {"fused projection in five axes", fusedFiveAxes, plainFeedForward, 4, false, ActivationKind::relu},
    {"heads outside q, k, v", headsOutside, plainFeedForward, 4, false, ActivationKind::relu},
    {"one key/value head", multiQuery, plainFeedForward, 1, false, ActivationKind::relu},
    {"grouped queries by Expand", groupedByExpand, plainFeedForward, 2, false, ActivationKind::relu},
    {"grouped queries by Gather", groupedByGather, plainFeedForward, 2, false, ActivationKind::relu},
    {"batch and heads in one axis", batchedHeads, plainFeedForward, 4, false, ActivationKind::relu},
    {"Einsum", byEinsum, plainFeedForward, 4, false, ActivationKind::relu},
    {"interleaved rotary embedding", interleavedRotary, plainFeedForward, 4, false, ActivationKind::relu},
    {"slope and temperature per head", slopePerHead, plainFeedForward, 4, false, ActivationKind::relu},
    {"normalized heads", normedHeads, plainFeedForward, 4, false, ActivationKind::relu},
    {"computed scale", computedScale, plainFeedForward, 4, false, ActivationKind::relu},
    {"gated feed-forward", plainAttention, gated, 4, true, ActivationKind::silu},
    {"gate and up in one", plainAttention, gatedInOne, 4, true, ActivationKind::silu},
    {"factored projections", factoredAttention, factoredFeedForward, 4, false, ActivationKind::relu},
    {"dequantized weights", plainAttention, dequantized, 4, false, ActivationKind::relu},
};

TEST_CASE("styles of attention and feed-forward, pre-norm") {
    for (const Style& style : kStyles) {
        TinyOptions options;
        options.kvHeads = style.kvHeads;
        checkStyle(style, preNorm(style.attention, style.feedForward, options), NormPlacement::pre);
    }
}

TEST_CASE("styles of attention and feed-forward, post-norm") {
    for (const Style& style : kStyles) {
        TinyOptions options;
        options.kvHeads = style.kvHeads;
        checkStyle(style, postNorm(style.attention, style.feedForward, options), NormPlacement::post);
    }
}

TEST_CASE("every factor of a projection has its role and block") {
    const ir::Model model = postNorm(factoredAttention, factoredFeedForward);
    const TransformerView view = recognise(model);
    REQUIRE(view.sites.size() == 2 * 6 * 2);
    for (const Site& site : view.sites) {
        INFO(site.weight->name());
        CHECK(site.role != SiteRole::other);
        CHECK(site.block == (site.weight->name().find('0') != std::string::npos ? 0 : 1));
    }
}

TEST_CASE("a wrong mask is seen: the comparison can fail") {
    const ir::Model model = preNorm(plainAttention);
    const TransformerView view = recognise(model);
    const AtomId leaf = view.attention[0].groupLeaf;
    const CutResult result =
        compareCut(model, view, {{leaf, {true, false, true, false}}}, {{leaf, {true, true, false, false}}});
    CHECK(result.difference > 1e-2);
}

TEST_CASE("a head size may shrink where the scale is a constant or is frozen into one") {
    for (AttentionWriter writer : {plainAttention, computedScale, byEinsum}) {
        const ir::Model model = preNorm(writer);
        const TransformerView view = recognise(model);
        // Query and key size only: zeroing their output columns masks them.
        const AtomId leaf = view.attention[0].headDimLeaves.front();
        const KeepMasks keep{{leaf, {true, false, true, true}}};
        ir::Model cut = model.clone();
        shrink(cut, analyseAxes(cut), keep, "test");
        const TransformerView after = recognise(cut);
        CHECK(after.attention[0].headDim == 3);
        CHECK(after.attention[1].headDim == 4);
        if (writer == computedScale) {
            // √4 stays; the cut model must not divide by √3.
            const ir::Node* divide = nullptr;
            for (const auto& node : cut.graph().nodes()) {
                if (divide == nullptr && node->is("Div")) divide = node.get();
            }
            REQUIRE(divide != nullptr);
            REQUIRE(divide->input(1)->constant() != nullptr);
            CHECK(toFloat32(*divide->input(1)->constant())[0] == 2.0F);
        }
    }
}

TEST_CASE("sizes that coincide with probe sizes or each other change nothing") {
    TinyOptions sameAsHeads;
    sameAsHeads.heads = 4;
    sameAsHeads.headDim = 4;
    TinyOptions likeBatch;
    likeBatch.heads = 2;
    likeBatch.headDim = 8;
    likeBatch.kvHeads = 2;
    TinyOptions likeSequence;
    likeSequence.hidden = 22;
    likeSequence.heads = 11;
    likeSequence.headDim = 2;
    likeSequence.width = 11;
    for (const TinyOptions& options : {sameAsHeads, likeBatch, likeSequence}) {
        const ir::Model model = preNorm(plainAttention, plainFeedForward, options);
        const TransformerView view = recognise(model);
        REQUIRE(view.attention.size() == 2);
        CHECK(view.attention[0].heads == options.heads);
        CHECK(view.attention[0].headDim == options.headDim);
        REQUIRE(view.feedForward.size() == 2);
        CHECK(view.feedForward[0].width == options.width);
        Random random(3, "coincidence");
        CHECK(compareCut(model, view, randomHalf(view, random, true, true)).difference < 1e-5);
    }
}

TEST_CASE("attention and feed-forward in parallel are one block") {
    GraphText g;
    const TinyOptions o;
    std::string x = g.input("float[b, s, 16]", "x");
    for (int layer = 0; layer < 2; ++layer) {
        const std::string attention = plainAttention(g, g.layerNorm(x, 16), o, layer);
        const std::string feedForward = plainFeedForward(g, g.layerNorm(x, 16), o, layer);
        x = g.node(fmt::format("Add({}, {})", x, g.node(fmt::format("Add({}, {})", feedForward, attention))));
    }
    g.output("float[b, s, 16]", x);
    const ir::Model model = g.model();
    const TransformerView view = recognise(model);
    REQUIRE(view.blocks.size() == 2);
    for (const Block& block : view.blocks) {
        REQUIRE(block.attention.size() == 1);
        REQUIRE(block.feedForward.size() == 1);
        CHECK(view.attention[block.attention[0]].residualAdd ==
              view.feedForward[block.feedForward[0]].residualAdd);
    }
    CHECK(view.blocks[0].input->name() == "x");
    CHECK(view.blocks[0].output == view.blocks[1].input);
    CHECK(view.blocks[1].output->name() == x);
}

TEST_CASE("one bias per head for all layers, computed from the input, is gathered for each layer") {
    // Layer 0 loses heads 1 and 2, layer 1 loses head 0.
    GraphText g;
    const TinyOptions o;
    std::string x = g.input("float[b, s, 16]", "x");
    const std::string bias = g.transpose(
        g.node(fmt::format("Unsqueeze({}, {})",
                           g.node(fmt::format("MatMul({}, {})", x, g.weight("to_bias", {16, 4}, 1.0))),
                           g.ints("bias_axis", {1}, {3}))),
        "0, 2, 3, 1");
    for (int layer = 0; layer < 2; ++layer) {
        const std::string n = g.layerNorm(x, 16);
        const std::string attention =
            attend(g, heads(g, n, layerName("q", layer), o, 4), heads(g, n, layerName("k", layer), o, 4),
                   heads(g, n, layerName("v", layer), o, 4), o, layer, bias);
        x = g.node(fmt::format("Add({}, {})", x, attention));
    }
    g.output("float[b, s, 16]", x);
    const ir::Model model = g.model();
    const TransformerView view = recognise(model);
    REQUIRE(view.attention.size() == 2);
    REQUIRE(view.attention[0].groupLeaf != view.attention[1].groupLeaf);
    const KeepMasks keep{{view.attention[0].groupLeaf, {true, false, false, true}},
                         {view.attention[1].groupLeaf, {false, true, true, true}}};
    const CutResult result = compareCut(model, view, keep);
    CHECK(result.difference < 1e-5);
    CHECK(result.effect > 1e-3);
}

TEST_CASE("biases that exporters merged do not tie layers together") {
    GraphText g;
    const std::string shared = g.weight("shared_bias", {24}, 0.5);
    std::string x = g.input("float[b, s, 16]", "x");
    const TinyOptions o;
    for (int layer = 0; layer < 2; ++layer) {
        x = g.node(fmt::format("Add({}, {})", x, plainAttention(g, g.layerNorm(x, 16), o, layer)));
        const std::string n = g.layerNorm(x, 16);
        const std::string up = g.node(fmt::format(
            "Add({}, {})",
            g.node(fmt::format("MatMul({}, {})", n, g.weight(layerName("up", layer), {16, 24}))), shared));
        const std::string down = g.node(fmt::format("MatMul({}, {})", g.node(fmt::format("Relu({})", up)),
                                                    g.weight(layerName("down", layer), {24, 16})));
        x = g.node(fmt::format("Add({}, {})", x, down));
    }
    g.output("float[b, s, 16]", x);
    ir::Model model = g.model();
    const TransformerView view = recognise(model);
    REQUIRE(view.feedForward.size() == 2);
    REQUIRE(view.feedForward[0].widthLeaves != view.feedForward[1].widthLeaves);
    Random random(5, "shared");
    CHECK(compareCut(model, view, randomHalf(view, random, false, true)).difference < 1e-5);
    CHECK(unshareVectors(model) == 1);
    CHECK(unshareVectors(model) == 0);
}

}  // namespace
}  // namespace tcompress::analysis
