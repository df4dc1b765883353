// Fused Transformer operators: ONNX 23 Attention and RotaryEmbedding, ONNX Runtime's com.microsoft family.

#include "lib/analysis/axis_rules.h"

namespace tcompress::analysis {

namespace {

Axis joined(const Axis& major, const Axis& minor) {
    Axis axis = major;
    axis.insert(axis.end(), minor.begin(), minor.end());
    return axis;
}

void embedLayerNorm(NodeAxes& n) {
    const Axis channels = n.axes(2).at(1);
    for (std::size_t i = 3; i <= 6; ++i) {
        if (n.has(i) && !n.lastAxis(i).empty()) n.unify(n.lastAxis(i), channels);
    }
    for (std::size_t i = 2; i <= 4; ++i) {
        if (n.has(i)) n.freeze(n.axes(i).front(), "indexed");
    }
    std::vector<Axis> out = n.axes(0);
    out.push_back(channels);
    n.set(0, out);
    n.setFresh(1);
    n.set(2, out);
    n.event(EventKind::norm, channels);
}

/// The output of a cache: present = past and the new keys or values, [B, heads, T, d] (with a leading 2 when
/// packed).
void cache(NodeAxes& n, std::size_t past, std::size_t present, const Axis& heads, const Axis& dim) {
    for (const bool input : {true, false}) {
        const std::size_t index = input ? past : present;
        if (input ? !n.has(index) : !n.hasOutput(index)) continue;
        if (!input) n.setFresh(index);
        const Shape& shape = input ? n.shape(index) : n.outputShape(index);
        if (shape.size() < 4) continue;
        std::vector<Axis> axes;
        if (input) {
            axes = n.axes(index);
            n.unify(axes[shape.size() - 3], heads);
            n.unify(axes.back(), dim);
        } else {
            for (std::int64_t size : shape) axes.push_back(n.store().axis(size));
            axes[shape.size() - 3] = heads;
            axes.back() = dim;
            n.set(index, std::move(axes));
        }
    }
}

/// An additive bias [B or 1, heads or 1, S, T].
void scoreBias(NodeAxes& n, std::size_t input, const Axis& heads) {
    if (!n.has(input) || n.shape(input).size() != 4) return;
    const Axis own = n.axes(input)[1];
    if (!own.empty()) n.unify(own, heads);
}

/// The default scale is 1 / sqrt(head size): without an explicit one the head size must stay.
void freezeIfDefaultScale(NodeAxes& n, const FusedAttention& fused) {
    if (n.node().attribute("scale") == nullptr) n.freeze(fused.headDim, "scaled by its size");
}

/// The scores as an output, [B, heads, S, T].
void scores(NodeAxes& n, std::size_t output, const Axis& heads) {
    if (!n.hasOutput(output)) return;
    n.setFresh(output);
    std::vector<Axis> axes;
    for (std::int64_t size : n.outputShape(output)) axes.push_back(n.store().axis(size));
    axes.at(1) = heads;
    n.set(output, std::move(axes));
}

/// Where an operator that projects has its inputs: x is 0, the weights [hidden, q ‖ k ‖ v] are 1, their bias 2.
struct PackedInputs {
    std::size_t past, scoreBias;
    std::vector<std::size_t> columns;  ///< vectors with an entry a column of the weights, or one
};

void packedAttention(NodeAxes& n, const PackedInputs& inputs) {
    const std::vector<Axis> x = n.axes(0);
    const std::int64_t heads = n.node().attributeInt("num_heads", 0);
    const std::int64_t width = n.shape(1).at(1);
    const auto sizes =
        n.node().attributeInts("qkv_hidden_sizes").value_or(std::vector<std::int64_t>(3, width / 3));
    const auto areHeads = [&](std::int64_t size) { return size >= 0 && size % heads == 0; };
    if (x.size() != 3 || heads <= 0 || sizes.size() != 3 || sizes[0] != sizes[1] || !areHeads(sizes[0]) ||
        !areHeads(sizes[2])) {
        throw NotUnderstood("its head attributes");
    }
    FusedAttention fused;
    fused.group = n.store().axis(heads);
    fused.headDim = n.store().axis(sizes[0] / heads);
    fused.valueDim = n.store().axis(sizes[2] / heads);
    const Axis query = joined(fused.group, fused.headDim);
    const Axis value = joined(fused.group, fused.valueDim);
    const Axis packed = n.store().concatenate({query, query, value});
    n.unify(x[2], n.axes(1)[0]);
    n.unify(n.axes(1)[1], packed);
    for (std::size_t input : inputs.columns) n.unifyTrailing(input, {packed});
    n.set(0, {x[0], x[1], value});
    cache(n, inputs.past, 1, fused.group, fused.headDim);
    scoreBias(n, inputs.scoreBias, fused.group);
    fused.query = fused.key = fused.value = n.node().input(0);
    n.product({0, 1, x[2], x[1], packed, {}});
    freezeIfDefaultScale(n, fused);
    n.fusedAttention(std::move(fused));
}

/// The head axis of an unpacked operand [B, S, heads * d] or per-head operand [B, heads, S, d].
void perHead(NodeAxes& n, std::size_t input, const Axis& heads, const Axis& dim) {
    if (!n.has(input)) return;
    const std::vector<Axis> axes = n.axes(input);
    if (axes.size() == 3) {
        n.unify(axes[2], joined(heads, dim));
    } else if (axes.size() == 4) {
        n.unify(axes[1], heads);
        n.unify(axes[3], dim);
    } else {
        throw NotUnderstood("rank of its operands");
    }
}

void multiHeadAttention(NodeAxes& n) {
    const std::vector<Axis> query = n.axes(0);
    const std::int64_t heads = n.node().attributeInt("num_heads", 0);
    if (query.size() != 3 || heads <= 0 || !n.has(1) || !n.has(2)) throw NotUnderstood("packed operands");
    const Shape& valueShape = n.shape(2);
    const std::int64_t valueDim = valueShape.size() == 4 ? valueShape[3] : valueShape.at(2) / heads;
    FusedAttention fused;
    fused.group = n.store().axis(heads);
    fused.headDim = n.store().axis(n.shape(0)[2] / heads);
    fused.valueDim = n.store().axis(valueDim);
    perHead(n, 0, fused.group, fused.headDim);
    perHead(n, 1, fused.group, fused.headDim);
    perHead(n, 2, fused.group, fused.valueDim);
    const Axis q = joined(fused.group, fused.headDim);
    const Axis v = joined(fused.group, fused.valueDim);
    if (n.has(3)) n.unify(n.lastAxis(3), n.store().concatenate({q, q, v}));
    scoreBias(n, 5, fused.group);
    n.set(0, {query[0], query[1], v});
    cache(n, 6, 1, fused.group, fused.headDim);
    cache(n, 7, 2, fused.group, fused.valueDim);
    scores(n, 3, fused.group);
    fused.query = n.node().input(0);
    fused.key = n.node().input(1);
    fused.value = n.node().input(2);
    freezeIfDefaultScale(n, fused);
    n.fusedAttention(std::move(fused));
}

/// Key/value heads and the query heads that share one of them.
FusedAttention grouped(NodeAxes& n, std::int64_t heads, std::int64_t kvHeads, std::int64_t dim,
                       std::int64_t valueDim) {
    if (heads <= 0 || kvHeads <= 0 || heads % kvHeads != 0) throw NotUnderstood("its head attributes");
    FusedAttention fused;
    fused.group = n.store().axis(kvHeads);
    fused.repeat = n.store().axis(heads / kvHeads);
    fused.headDim = n.store().axis(dim);
    fused.valueDim = n.store().axis(valueDim);
    return fused;
}

void groupQueryAttention(NodeAxes& n) {
    const std::vector<Axis> query = n.axes(0);
    const std::int64_t heads = n.node().attributeInt("num_heads", 0);
    const std::int64_t kvHeads = n.node().attributeInt("kv_num_heads", 0);
    const bool packed = !n.has(1);
    const std::int64_t width = n.shape(0).at(2);
    if (query.size() != 3 || heads <= 0 || heads > width || kvHeads <= 0 ||
        kvHeads > (packed ? (width - heads) / 2 : heads)) {
        throw NotUnderstood("its head attributes");
    }
    const std::int64_t dim = width / (packed ? heads + 2 * kvHeads : heads);
    FusedAttention fused = grouped(n, heads, kvHeads, dim, dim);
    const Axis queryHeads = joined(fused.group, fused.repeat);
    const Axis kv = joined(fused.group, fused.headDim);
    const Axis q = joined(queryHeads, fused.headDim);
    const Axis v = joined(fused.group, fused.valueDim);
    if (packed) {
        n.unify(query[2], n.store().concatenate({q, kv, v}));
    } else {
        n.unify(query[2], q);
        n.unify(n.axes(1).at(2), kv);
        n.unify(n.axes(2).at(2), v);
    }
    for (std::size_t i = 7; i <= 8; ++i) n.freezeInput(i, "rotary table");
    if (n.node().attributeInt("do_rotary", 0) != 0) n.freeze(fused.headDim, "rotated");
    n.set(0, {query[0], query[1], joined(queryHeads, fused.valueDim)});
    cache(n, 3, 1, fused.group, fused.headDim);
    cache(n, 4, 2, fused.group, fused.valueDim);
    scoreBias(n, 10, queryHeads);
    n.unifyTrailing(11, {queryHeads});
    scores(n, 3, queryHeads);
    fused.query = n.node().input(0);
    fused.key = packed ? fused.query : n.node().input(1);
    fused.value = packed ? fused.query : n.node().input(2);
    freezeIfDefaultScale(n, fused);
    n.fusedAttention(std::move(fused));
}

void attention(NodeAxes& n) {
    const std::vector<Axis> query = n.axes(0);
    const bool flat = query.size() == 3;
    const Shape& q = n.shape(0);
    const Shape& k = n.shape(1);
    const Shape& v = n.shape(2);
    const std::int64_t heads = flat ? n.node().attributeInt("q_num_heads", 0) : q.at(1);
    const std::int64_t kvHeads = flat ? n.node().attributeInt("kv_num_heads", 0) : k.at(1);
    if (heads <= 0 || kvHeads <= 0) throw NotUnderstood("its head attributes");
    FusedAttention fused =
        grouped(n, heads, kvHeads, flat ? k.at(2) / kvHeads : k.at(3), flat ? v.at(2) / kvHeads : v.at(3));
    const Axis queryHeads = joined(fused.group, fused.repeat);
    perHead(n, 0, queryHeads, fused.headDim);
    perHead(n, 1, fused.group, fused.headDim);
    perHead(n, 2, fused.group, fused.valueDim);
    scoreBias(n, 3, queryHeads);
    if (flat) {
        n.set(0, {query[0], query[1], joined(queryHeads, fused.valueDim)});
    } else {
        n.set(0, {query[0], queryHeads, query[2], fused.valueDim});
    }
    cache(n, 4, 1, fused.group, fused.headDim);
    cache(n, 5, 2, fused.group, fused.valueDim);
    scores(n, 3, queryHeads);
    fused.query = n.node().input(0);
    fused.key = n.node().input(1);
    fused.value = n.node().input(2);
    freezeIfDefaultScale(n, fused);
    n.fusedAttention(std::move(fused));
}

// The rotated axis and its tables keep their positions; heads may go.
void rotary(NodeAxes& n, std::int64_t headsWhenFlat) {
    const std::vector<Axis> x = n.axes(0);
    for (std::size_t i = 1; i < n.node().inputs().size(); ++i) n.freezeInput(i, "rotary table");
    if (x.size() == 4) {
        n.freeze(x[3], "rotated");
    } else if (x.size() == 3 && headsWhenFlat > 0) {
        n.freeze(n.store().take(x[2], headsWhenFlat).second, "rotated");
    } else {
        throw NotUnderstood("number of heads");
    }
    n.set(0, x);
}

}  // namespace

void addFusedAxisRules(AxisRules& rules) {
    // The quantized one has the scales and zero points of whole tables behind the same inputs.
    for (const char* name : {"com.microsoft.EmbedLayerNormalization", "com.microsoft.QEmbedLayerNormalization"}) {
        rules[name] = embedLayerNorm;
    }
    rules["com.microsoft.Attention"] = [](NodeAxes& n) { packedAttention(n, {4, 5, {2}}); };
    // It has no attention bias: that input number is beyond its last.
    rules["com.microsoft.QAttention"] = [](NodeAxes& n) { packedAttention(n, {8, 9, {2, 4, 7}}); };
    rules["com.microsoft.MultiHeadAttention"] = multiHeadAttention;
    rules["com.microsoft.GroupQueryAttention"] = groupQueryAttention;
    rules["Attention"] = attention;
    const auto rotaryRule = [](NodeAxes& n) { rotary(n, n.node().attributeInt("num_heads", 0)); };
    rules["RotaryEmbedding"] = rotaryRule;
    rules["com.microsoft.RotaryEmbedding"] = rotaryRule;
}

}  // namespace tcompress::analysis
