// Attention of a QDQ model: MatMul → Div or Mul → Add(mask) → Softmax → MatMul on dequantized operands, each
// step with or without a rounding to a code after it, becomes one node that multiplies codes and reads the
// heads where they lie.

#include "lib/exec/operator.h"
#include "lib/exec/optimize/codes.h"
#include "lib/exec/optimize/head_operands.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

using kernels::Int8Code;

/// A value, and the code that it was rounded to by a QuantizeLinear → DequantizeLinear pair that nobody else
/// reads.
struct Rounded {
    ValueId before = kNoValue;
    std::optional<Int8Code> code;
};
Rounded beforeRounding(const Rewriter& rewriter, ValueId value) {
    const PlanNode* dequantize = rewriter.producer(value);
    const auto code = dequantize && isDequantize(*dequantize) && rewriter.vanishes(value)
                          ? tensorCode(rewriter, dequantize)
                          : std::nullopt;
    const PlanNode* quantize =
        code && rewriter.vanishes(dequantize->input(0)) ? rewriter.producer(dequantize->input(0)) : nullptr;
    const auto same = quantize && isQuantize(*quantize) ? tensorCode(rewriter, quantize) : std::nullopt;
    return same && sameCode(*code, *same) ? Rounded{quantize->input(0), code} : Rounded{value, std::nullopt};
}

/// A dequantized operand of a product.
struct Coded {
    Operand operand;
    Int8Code code;
};
std::optional<Coded> codedOperand(const Rewriter& rewriter, ValueId value) {
    const PlanNode* dequantize = rewriter.producer(value);
    const auto code =
        dequantize && isDequantize(*dequantize) ? tensorCode(rewriter, dequantize) : std::nullopt;
    if (!code || rewriter.constant(dequantize->input(0))) return std::nullopt;
    return Coded{headOperand(rewriter, dequantize->input(0), nullptr), *code};
}

/// How scores come about; each stage is followed by its code.
struct Scores {
    enum class Stage { product, scaled, masked } stage = Stage::product;
    Coded q, k;
    std::optional<Int8Code> product, scaled, masked;
    float scale = 1;
    ValueId mask = kNoValue;
};

std::optional<Scores> scoresAt(const Rewriter& rewriter, ValueId value) {
    const Rounded rounded = beforeRounding(rewriter, value);
    const PlanNode* node = rewriter.vanishes(rounded.before) ? rewriter.producer(rounded.before) : nullptr;
    if (!node) return std::nullopt;
    if (node->is("MatMul")) {
        const auto q = codedOperand(rewriter, node->input(0));
        const auto k = codedOperand(rewriter, node->input(1));
        if (!q || !k) return std::nullopt;
        Scores scores;
        scores.q = *q;
        scores.k = *k;
        scores.product = rounded.code;
        return scores;
    }
    if (node->is("Mul") || node->is("Div")) {
        const auto scalar = rewriter.scalarOperand(*node);
        if (!scalar || (node->is("Div") && node->input(0) != scalar->other)) return std::nullopt;
        auto scores = scoresAt(rewriter, scalar->other);
        if (!scores || scores->stage != Scores::Stage::product) return std::nullopt;
        scores->stage = Scores::Stage::scaled;
        scores->scale = node->is("Mul") ? scalar->scalar : 1.0F / scalar->scalar;
        scores->scaled = rounded.code;
        return scores;
    }
    if (!node->is("Add")) return std::nullopt;
    for (std::size_t i = 0; i < 2; ++i) {
        auto scores = scoresAt(rewriter, node->input(i));
        if (!scores || scores->stage == Scores::Stage::masked) continue;
        scores->stage = Scores::Stage::masked;
        scores->mask = node->input(1 - i);
        scores->masked = rounded.code;
        return scores;
    }
    return std::nullopt;
}

/// The product with the values, and the code of the probabilities before it.
struct Weighted {
    PlanNode* product = nullptr;
    Int8Code probability;
};
std::optional<Weighted> weightedValues(const Rewriter& rewriter, const PlanNode& softmax) {
    const PlanNode* quantize = rewriter.soleUser(softmax.output());
    const auto code = quantize && isQuantize(*quantize) ? tensorCode(rewriter, quantize) : std::nullopt;
    const PlanNode* dequantize = code ? rewriter.soleUser(quantize->output()) : nullptr;
    const auto same =
        dequantize && isDequantize(*dequantize) ? tensorCode(rewriter, dequantize) : std::nullopt;
    PlanNode* product = same && sameCode(*code, *same) ? rewriter.soleUser(dequantize->output()) : nullptr;
    if (!product || !product->is("MatMul") || product->input(0) != dequantize->output()) return std::nullopt;
    return Weighted{product, *code};
}

void fuse(Rewriter& rewriter, PlanNode& softmax) {
    const std::int64_t axis = Attributes(*softmax.proto).integer("axis", softmax.version < 13 ? 1 : -1);
    if (axis != -1 && axis != 3) return;
    const auto weighted = weightedValues(rewriter, softmax);
    auto scores = weighted ? scoresAt(rewriter, softmax.input(0)) : std::nullopt;
    const auto v = scores ? codedOperand(rewriter, weighted->product->input(1)) : std::nullopt;
    if (!v) return;
    // The second operand of the first product is Kᵀ: its last two axes change places.
    std::swap(scores->k.operand.permutation[2], scores->k.operand.permutation[3]);
    std::vector<std::int64_t> layouts;
    for (const Coded* coded : std::initializer_list<const Coded*>{&scores->q, &scores->k, &*v}) {
        const auto layout = layoutOf(coded->operand.permutation);
        if (!layout || !hasFourAxes(rewriter.graph(), coded->operand)) return;
        layouts.push_back(*layout);
    }
    PlanNode* last = weighted->product;
    PlanNode* after = rewriter.soleUser(last->output());
    const auto outCode = after && isQuantize(*after) ? tensorCode(rewriter, after) : std::nullopt;
    if (outCode) {
        last = after;
        after = rewriter.soleUser(last->output());
    }
    layouts.push_back(kHeadsFirst);
    if (after && after->is("Transpose") && permutationOf(*after) == Permutation{0, 2, 1, 3}) {
        last = after;
        layouts.back() = kRowsFirst;
    }
    PlanNode fused =
        rewriter.make(kFusedDomain, "Int8Attention",
                      {scores->q.operand.value, scores->k.operand.value, v->operand.value, scores->mask},
                      last->outputs, last->label());
    setAttribute(protoOf(fused), "scale", scores->scale);
    setAttribute(protoOf(fused), "layouts", layouts);
    const auto set = [&](const char* name, const std::optional<Int8Code>& code) {
        if (code) setCode(fused, name, *code);
    };
    set("q", scores->q.code);
    set("k", scores->k.code);
    set("v", v->code);
    set("product", scores->product);
    set("scaled", scores->scaled);
    set("masked", scores->masked);
    set("probability", weighted->probability);
    set("y", outCode);
    rewriter.replace(*last, std::move(fused));
}

}  // namespace

void fuseQuantizedAttention(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("Softmax")) fuse(rewriter, node);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
