// Fused Transformer operators: ONNX 23 Attention and RotaryEmbedding, ONNX Runtime's com.microsoft family.

#include "lib/analysis/shape_rules.h"
#include "lib/analysis/small_values.h"

namespace tcompress::analysis {

namespace {

void embedLayerNorm(NodeShapes& s) {
    Shape out = s.shape(0);
    const std::int64_t batch = out.at(0);
    if (s.has(3) && out.at(1) > s.shape(3).at(0)) throw UnknownShape("longer than the position table");
    out.push_back(s.shape(2).at(1));
    s.set(0, out);
    s.set(1, Shape{batch});
    s.set(2, out);
}

// com.microsoft.Attention: input [B, S, hidden], weights [hidden, q + k + v].
void packedAttention(NodeShapes& s) {
    const Shape in = s.shape(0);
    const std::int64_t heads = s.node().attributeInt("num_heads", 0);
    const std::int64_t width = s.shape(1).at(1);
    const auto sizes =
        s.node().attributeInts("qkv_hidden_sizes").value_or(std::vector<std::int64_t>(3, width / 3));
    if (in.size() != 3 || heads <= 0 || sizes.size() != 3) throw UnknownShape("packed attention");
    s.set(0, Shape{in[0], in[1], sizes[2]});
    std::int64_t past = 0;
    if (s.has(4)) past = s.shape(4).at(3);
    s.set(1, Shape{2, in[0], heads, sum(past, in[1]), sizes[1] / heads});
}

// com.microsoft.MultiHeadAttention with unpacked query [B, S, hidden], key and value [B, T, hidden] or [B, H,
// T, d].
void multiHeadAttention(NodeShapes& s) {
    const Shape query = s.shape(0);
    const std::int64_t heads = s.node().attributeInt("num_heads", 0);
    if (query.size() != 3 || heads <= 0 || !s.has(1) || !s.has(2)) throw UnknownShape("packed operands");
    const Shape key = s.shape(1), value = s.shape(2);
    const bool perHead = key.size() == 4;
    const std::int64_t width = perHead ? product(value.at(1), value.at(3)) : value.at(2);
    const std::int64_t headDim = query[2] / heads;
    std::int64_t length = perHead ? key.at(2) : key.at(1);
    if (s.has(6)) length = sum(length, s.shape(6).at(2));
    s.set(0, Shape{query[0], query[1], width});
    s.set(1, Shape{query[0], heads, length, headDim});
    s.set(2, Shape{query[0], heads, length, width / heads});
    s.set(3, Shape{query[0], heads, query[1], length});
}

void groupQueryAttention(NodeShapes& s) {
    const Shape query = s.shape(0);
    const std::int64_t heads = s.node().attributeInt("num_heads", 0);
    const std::int64_t kvHeads = s.node().attributeInt("kv_num_heads", 0);
    if (query.size() != 3 || heads <= 0 || kvHeads <= 0) throw UnknownShape("attributes");
    const bool packed = !s.has(1);
    const std::int64_t headDim = query[2] / (packed ? sum(heads, product(2, kvHeads)) : heads);
    s.set(0, Shape{query[0], query[1], heads * headDim});
    const std::int64_t past = s.has(3) ? s.shape(3).at(2) : 0;
    const std::int64_t total = sum(past, query[1]);
    s.set(1, Shape{query[0], kvHeads, total, headDim});
    s.set(2, Shape{query[0], kvHeads, total, headDim});
    s.set(3, Shape{query[0], heads, query[1], total});
}

// ONNX Attention (opset 23): [B, heads, S, d], or [B, S, heads * d] with the numbers of heads as attributes.
void attention(NodeShapes& s) {
    const Shape q = s.shape(0), k = s.shape(1), v = s.shape(2);
    const bool flat = q.size() == 3;
    const std::int64_t heads = flat ? s.node().attributeInt("q_num_heads", 0) : q.at(1);
    const std::int64_t kvHeads = flat ? s.node().attributeInt("kv_num_heads", 0) : k.at(1);
    if (heads <= 0 || kvHeads <= 0) throw UnknownShape("numbers of heads");
    const std::int64_t qLength = flat ? q.at(1) : q.at(2);
    const std::int64_t kLength = sum(flat ? k.at(1) : k.at(2), s.has(4) ? s.shape(4).at(2) : 0);
    const std::int64_t kDim = flat ? k.at(2) / kvHeads : k.at(3);
    const std::int64_t vDim = flat ? v.at(2) / kvHeads : v.at(3);
    s.set(0, flat ? Shape{q[0], qLength, product(heads, vDim)} : Shape{q[0], heads, qLength, vDim});
    s.set(1, Shape{q[0], kvHeads, kLength, kDim});
    s.set(2, Shape{q[0], kvHeads, kLength, vDim});
    s.set(3, Shape{q[0], heads, qLength, kLength});
}

}  // namespace

void addFusedShapeRules(ShapeRules& rules) {
    for (const char* name : {"com.microsoft.EmbedLayerNormalization", "com.microsoft.QEmbedLayerNormalization"}) {
        rules[name] = embedLayerNorm;
    }
    rules["com.microsoft.Attention"] = packedAttention;
    rules["com.microsoft.MultiHeadAttention"] = multiHeadAttention;
    rules["com.microsoft.GroupQueryAttention"] = groupQueryAttention;
    rules["Attention"] = attention;
    const auto same = [](NodeShapes& s) { s.set(0, s.shape(0)); };
    for (const char* name : {"RotaryEmbedding", "com.microsoft.RotaryEmbedding"}) rules[name] = same;
    rules["com.microsoft.QAttention"] = [](NodeShapes& s) {
        const Shape in = s.shape(0);
        const std::int64_t heads = s.node().attributeInt("num_heads", 0);
        const std::int64_t width = s.shape(1).at(1) / 3;
        if (in.size() != 3 || heads <= 0) throw UnknownShape("packed attention");
        const std::int64_t past = s.has(8) ? s.shape(8).at(3) : 0;
        s.set(0, Shape{in[0], in[1], width});
        s.set(1, Shape{2, in[0], heads, sum(past, in[1]), width / heads});
    };
    for (const char* name : {"com.microsoft.QLinearAdd", "com.microsoft.QLinearMul"}) {
        rules[name] = [](NodeShapes& s) { s.set(0, broadcast(s.shape(0), s.shape(3))); };
    }
    for (const char* name :
         {"com.microsoft.QLinearSigmoid", "com.microsoft.QLinearSoftmax", "com.microsoft.QLinearLeakyRelu"})
        rules[name] = same;
}

}  // namespace tcompress::analysis
