#include "tests/unit/analysis/tiny_transformer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "lib/ir/load.h"

namespace tcompress::analysis {

namespace {

/// "float[2,3]"; a scalar has no brackets.
std::string typeText(const char* element, const Shape& shape) {
    return shape.empty() ? element : fmt::format("{}[{}]", element, fmt::join(shape, ","));
}

}  // namespace

std::string GraphText::fresh(const std::string& stem) { return fmt::format("{}_{}", stem, counter_++); }

std::string GraphText::floats(const std::string& name, const Shape& shape, const std::vector<float>& values) {
    std::vector<std::string> texts;
    for (float v : values) texts.push_back(fmt::format("{:.7f}", v));
    constants_ += fmt::format("{}{} {} = {{{}}}", constants_.empty() ? "" : ", ", typeText("float", shape),
                              name, fmt::join(texts, ","));
    return name;
}

std::string GraphText::weight(const std::string& name, const Shape& shape, double scale) {
    std::vector<float> values(static_cast<std::size_t>(elementCount(shape)));
    for (float& v : values) v = static_cast<float>(scale * random_.normal());
    return floats(name, shape, values);
}

std::string GraphText::ints(const std::string& name, const Shape& shape,
                            const std::vector<std::int64_t>& values) {
    constants_ += fmt::format("{}{} {} = {{{}}}", constants_.empty() ? "" : ", ", typeText("int64", shape),
                              name, fmt::join(values, ","));
    return name;
}

std::string GraphText::node(const std::string& op) { return nodes(op, 1).front(); }

std::vector<std::string> GraphText::nodes(const std::string& op, std::size_t outputs) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < outputs; ++i) names.push_back(fresh("v"));
    body_ += fmt::format("  {} = {}\n", fmt::join(names, ", "), op);
    return names;
}

std::string GraphText::input(const std::string& type, const std::string& name) {
    inputs_ += fmt::format("{}{} {}", inputs_.empty() ? "" : ", ", type, name);
    return name;
}

void GraphText::output(const std::string& type, const std::string& name) {
    outputs_ += fmt::format("{}{} {}", outputs_.empty() ? "" : ", ", type, name);
}

std::string GraphText::text() const {
    return fmt::format(
        "<ir_version: 10, opset_import: [\"\" : {}, \"com.microsoft\" : 1]>\ntiny ({}) => "
        "({})\n<{}>\n{{\n{}}}\n",
        opset_, inputs_, outputs_, constants_, body_);
}

ir::Model GraphText::model() const { return ir::fromText(text()); }

std::string GraphText::linear(const std::string& x, const std::string& name, std::int64_t in,
                              std::int64_t out) {
    const std::string product = node(fmt::format("MatMul({}, {})", x, weight(name, {in, out})));
    return node(fmt::format("Add({}, {})", weight(name + "_bias", {out}), product));
}

std::string GraphText::reshape(const std::string& x, const std::vector<std::int64_t>& shape) {
    const std::string operand = ints(fresh("shape"), {static_cast<std::int64_t>(shape.size())}, shape);
    return node(fmt::format("Reshape({}, {})", x, operand));
}

std::string GraphText::transpose(const std::string& x, const std::string& perm) {
    return node(fmt::format("Transpose <perm = [{}]> ({})", perm, x));
}

std::string GraphText::layerNorm(const std::string& x, std::int64_t width) {
    const std::string gamma = weight(fresh("gamma"), {width}), beta = weight(fresh("beta"), {width});
    return node(fmt::format("LayerNormalization <axis = -1> ({}, {}, {})", x, gamma, beta));
}

std::string GraphText::scaled(const std::string& x, float factor) {
    return node(fmt::format("Mul({}, {})", x, floats(fresh("scale"), {}, {factor})));
}

std::string GraphText::softmax(const std::string& x) {
    return node(fmt::format("Softmax <axis = -1> ({})", x));
}

std::string attend(GraphText& g, const std::string& q, const std::string& k, const std::string& v,
                   const TinyOptions& o, int layer, const std::string& bias) {
    const std::string keys = g.transpose(k, "0, 1, 3, 2");
    std::string scores = g.scaled(g.node(fmt::format("MatMul({}, {})", q, keys)), 0.5F);
    if (!bias.empty()) scores = g.node(fmt::format("Add({}, {})", scores, bias));
    const std::string context = g.node(fmt::format("MatMul({}, {})", g.softmax(scores), v));
    const std::string rows = g.reshape(g.transpose(context, "0, 2, 1, 3"), {0, 0, o.heads * o.headDim});
    return g.linear(rows, fmt::format("o{}", layer), o.heads * o.headDim, o.hidden);
}

std::string plainAttention(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const auto head = [&](const char* name) {
        const std::string rows = g.linear(x, fmt::format("{}{}", name, layer), o.hidden, o.heads * o.headDim);
        return g.transpose(g.reshape(rows, {0, 0, o.heads, o.headDim}), "0, 2, 1, 3");
    };
    const std::string q = head("q"), k = head("k"), v = head("v");
    return attend(g, q, k, v, o, layer);
}

std::string plainFeedForward(GraphText& g, const std::string& x, const TinyOptions& o, int layer) {
    const std::string up = g.linear(x, fmt::format("up{}", layer), o.hidden, o.width);
    return g.linear(g.node(fmt::format("Relu({})", up)), fmt::format("down{}", layer), o.width, o.hidden);
}

ir::Model preNorm(AttentionWriter attention, FeedForwardWriter feedForward, const TinyOptions& o, int opset) {
    GraphText g(opset);
    std::string x = g.input(fmt::format("float[b, s, {}]", o.hidden), "x");
    for (int layer = 0; layer < o.layers; ++layer) {
        x = g.node(fmt::format("Add({}, {})", x, attention(g, g.layerNorm(x, o.hidden), o, layer)));
        if (feedForward != nullptr)
            x = g.node(fmt::format("Add({}, {})", x, feedForward(g, g.layerNorm(x, o.hidden), o, layer)));
    }
    const std::string last = g.layerNorm(x, o.hidden);
    g.output(fmt::format("float[b, s, {}]", o.hidden), last);
    return g.model();
}

ir::Model postNorm(AttentionWriter attention, FeedForwardWriter feedForward, const TinyOptions& o) {
    GraphText g;
    std::string x = g.input(fmt::format("float[b, s, {}]", o.hidden), "x");
    x = g.layerNorm(x, o.hidden);
    for (int layer = 0; layer < o.layers; ++layer) {
        x = g.layerNorm(g.node(fmt::format("Add({}, {})", attention(g, x, o, layer), x)), o.hidden);
        if (feedForward != nullptr)
            x = g.layerNorm(g.node(fmt::format("Add({}, {})", feedForward(g, x, o, layer), x)), o.hidden);
    }
    g.output(fmt::format("float[b, s, {}]", o.hidden), x);
    return g.model();
}

}  // namespace tcompress::analysis
