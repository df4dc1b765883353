// The attention operators of ONNX 23 and of com.microsoft: recognised like attention spelled out, and cut to
// what the masked model computes.

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "tests/unit/analysis/style_check.h"

namespace tcompress::analysis {
namespace {

std::string projected(GraphText& g, const std::string& x, const char* name, const TinyOptions& o, int layer,
                      std::int64_t count) {
    return g.linear(x, layerName(name, layer), o.hidden, count * o.headDim);
}

std::string output(GraphText& g, const std::string& context, const TinyOptions& o, int layer) {
    return g.linear(context, layerName("o", layer), o.heads * o.headDim, o.hidden);
}

std::string packedContrib(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    return output(g,
                  g.node(fmt::format("com.microsoft.Attention <num_heads = {}> ({}, {}, {})", o.heads, x,
                                     g.weight(layerName("w", layer), {o.hidden, 3 * o.hidden}),
                                     g.weight(layerName("b", layer), {3 * o.hidden}))),
                  o, layer);
}

std::string multiHead(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string q = projected(g, x, "q", o, layer, o.heads),
                      k = projected(g, x, "k", o, layer, o.heads);
    const std::string v = projected(g, x, "v", o, layer, o.heads);
    return output(g,
                  g.node(fmt::format("com.microsoft.MultiHeadAttention <num_heads = {}> ({}, {}, {}, {})",
                                     o.heads, q, k, v, g.weight(layerName("bias", layer), {3 * o.hidden}))),
                  o, layer);
}

// The lengths that GroupQueryAttention wants: every batch element is whole.
std::string lengths(GraphText& g, const std::string& x, int layer) {
    const std::string total =
        g.node(fmt::format("Cast <to = 6> ({})", g.node(fmt::format("Shape <start = 1, end = 2> ({})", x))));
    const std::string one =
        g.node(fmt::format("Cast <to = 6> ({})", g.ints(layerName("one", layer), {1}, {1})));
    const std::string last = g.node(fmt::format("Sub({}, {})", total, one));
    const std::string batch = g.node(fmt::format("Shape <start = 0, end = 1> ({})", x));
    const std::string scalar =
        g.node(fmt::format("Squeeze({}, {})", total, g.ints(layerName("first", layer), {1}, {0})));
    return fmt::format("{}, {}", g.node(fmt::format("Expand({}, {})", last, batch)), scalar);
}

// With a bias for each head and an attention sink.
std::string grouped(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string q = projected(g, x, "q", o, layer, o.heads),
                      k = projected(g, x, "k", o, layer, o.kvHeads);
    const std::string v = projected(g, x, "v", o, layer, o.kvHeads);
    const std::string sinks = g.weight(layerName("sinks", layer), {o.heads});
    return output(g,
                  g.node(fmt::format("com.microsoft.GroupQueryAttention <num_heads = {}, kv_num_heads = {}> "
                                     "({}, {}, {}, \"\", \"\", {}, \"\", \"\", \"\", \"\", {})",
                                     o.heads, o.kvHeads, q, k, v, lengths(g, x, layer), sinks)),
                  o, layer);
}

std::string groupedPacked(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string qkv = projected(g, x, "qkv", o, layer, o.heads + 2 * o.kvHeads);
    return output(g,
                  g.node(fmt::format(
                      "com.microsoft.GroupQueryAttention <num_heads = {}, kv_num_heads = {}, scale = 0.4> "
                      "({}, \"\", \"\", \"\", \"\", {})",
                      o.heads, o.kvHeads, qkv, lengths(g, x, layer))),
                  o, layer);
}

std::string quantized(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto bytes = [&](const std::string& real) {
        return g.node(fmt::format("Cast <to = 2> ({})", real));
    };
    const std::string zero = bytes(g.floats(layerName("middle", layer), {}, {128}));
    const std::string scale = g.floats(layerName("scale", layer), {}, {0.02F});
    const std::string codes = g.node(fmt::format("QuantizeLinear({}, {}, {})", x, scale, zero));
    const std::string weight =
        bytes(g.node(fmt::format("Abs({})", g.weight(layerName("w", layer), {o.hidden, 3 * o.hidden}, 40))));
    const std::string scales = g.floats(layerName("scales", layer), {3 * o.hidden},
                                        std::vector<float>(static_cast<std::size_t>(3 * o.hidden), 0.01F));
    return output(g,
                  g.node(fmt::format(
                      "com.microsoft.QAttention <num_heads = {}> ({}, {}, {}, {}, {}, \"\", {})", o.heads,
                      codes, weight, g.weight(layerName("b", layer), {3 * o.hidden}), scale, scales, zero)),
                  o, layer);
}

std::string standardFlat(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string q = projected(g, x, "q", o, layer, o.heads),
                      k = projected(g, x, "k", o, layer, o.kvHeads);
    const std::string v = projected(g, x, "v", o, layer, o.kvHeads);
    return output(g,
                  g.node(fmt::format("Attention <q_num_heads = {}, kv_num_heads = {}> ({}, {}, {})", o.heads,
                                     o.kvHeads, q, k, v)),
                  o, layer);
}

std::string standardHeads(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string q = heads(g, x, layerName("q", layer), o, o.heads),
                      k = heads(g, x, layerName("k", layer), o, o.kvHeads);
    const std::string v = heads(g, x, layerName("v", layer), o, o.kvHeads);
    const std::string context = g.node(fmt::format("Attention <is_causal = 1> ({}, {}, {})", q, k, v));
    return output(g, g.reshape(g.transpose(context, "0, 2, 1, 3"), {0, 0, o.heads * o.headDim}), o, layer);
}

// Queries and keys turned by the operator, from tables of 64 positions.
std::string rotated(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string cosines = g.weight(layerName("cosines", layer), {64, o.headDim / 2}),
                      sines = g.weight(layerName("sines", layer), {64, o.headDim / 2});
    const std::string first = g.node(fmt::format("Shape <start = 1, end = 2> ({})", x));
    const std::string zero = g.ints(layerName("zero", layer), {}, {0}),
                      one = g.ints(layerName("step", layer), {}, {1});
    const std::string range =
        g.node(fmt::format("Range({}, {}, {})", zero, g.node(fmt::format("Squeeze({})", first)), one));
    const std::string positions = g.node(
        fmt::format("Expand({}, {})", range, g.node(fmt::format("Shape <start = 0, end = 2> ({})", x))));
    const auto turn = [&](const std::string& t, std::int64_t count) {
        return g.node(fmt::format("RotaryEmbedding <num_heads = {}> ({}, {}, {}, {})", count, t, cosines,
                                  sines, positions));
    };
    const std::string q = turn(projected(g, x, "q", o, layer, o.heads), o.heads),
                      k = turn(projected(g, x, "k", o, layer, o.kvHeads), o.kvHeads);
    const std::string v = projected(g, x, "v", o, layer, o.kvHeads);
    return output(g,
                  g.node(fmt::format("Attention <q_num_heads = {}, kv_num_heads = {}> ({}, {}, {})", o.heads,
                                     o.kvHeads, q, k, v)),
                  o, layer);
}

const Style kFused[] = {
    {"com.microsoft Attention", packedContrib, plainFeedForward, 4, false, ActivationKind::relu},
    {"com.microsoft MultiHeadAttention", multiHead, plainFeedForward, 4, false, ActivationKind::relu},
    {"com.microsoft GroupQueryAttention", grouped, plainFeedForward, 2, false, ActivationKind::relu},
    {"com.microsoft GroupQueryAttention, one projection", groupedPacked, plainFeedForward, 2, false,
     ActivationKind::relu},
    {"com.microsoft QAttention", quantized, plainFeedForward, 4, false, ActivationKind::relu},
    {"Attention of [B, S, H * d]", standardFlat, plainFeedForward, 4, false, ActivationKind::relu},
    {"Attention of [B, S, H * d], grouped", standardFlat, plainFeedForward, 2, false, ActivationKind::relu},
    {"Attention of [B, H, S, d]", standardHeads, plainFeedForward, 2, false, ActivationKind::relu},
    {"RotaryEmbedding and Attention", rotated, plainFeedForward, 2, false, ActivationKind::relu},
};

// Root mean square instead of layer normalization, around the standard operator.
ir::Model rmsNormed(const TinyOptions& o) {
    GraphText g(23);
    std::string x = g.input("float[b, s, 16]", "x");
    const auto norm = [&](const std::string& t, int i) {
        return g.node(fmt::format("RMSNormalization({}, {})", t, g.weight(fmt::format("rms{}", i), {16})));
    };
    for (int layer = 0; layer < 2; ++layer) {
        x = g.node(fmt::format("Add({}, {})", x, standardFlat(g, norm(x, 2 * layer), o, layer)));
        x = g.node(fmt::format("Add({}, {})", x, plainFeedForward(g, norm(x, 2 * layer + 1), o, layer)));
    }
    const std::string last = norm(x, 4);
    g.output("float[b, s, 16]", last);
    return g.model();
}

TEST_CASE("attention operators are recognised and cut") {
    for (const Style& style : kFused) {
        TinyOptions options;
        options.kvHeads = style.kvHeads;
        checkStyle(style, preNorm(style.attention, style.feedForward, options, 23), NormPlacement::pre);
    }
}

TEST_CASE("RMSNormalization is a norm") {
    const Style style{"RMSNormalization", standardFlat, plainFeedForward, 4, false, ActivationKind::relu};
    checkStyle(style, rmsNormed({}), NormPlacement::pre);
}

}  // namespace
}  // namespace tcompress::analysis
