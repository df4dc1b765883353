// softmax(scale · Q·Kᵀ + mask) · V spelled out, with the Transposes that split heads around it, becomes one node that
// reads Q, K and V where they lie. Every operator between the two MatMuls must be one that the kernel knows.

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/head_operands.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

struct Match {
    Operand q, k, v;
    float scale = 1;
    std::vector<ValueId> masks;  // added
    struct Choice {
        ValueId condition, fill;
    };
    std::vector<Choice> choices;  // Where(condition, scores, fill)
};

/// Whether the scores are reached from here: the operand of an Add that is no mask.
bool leadsToProduct(const Rewriter& rewriter, ValueId value) {
    for (int depth = 0; depth < 8; ++depth) {
        const PlanNode* node = rewriter.producer(value);
        if (!node) return false;
        if (node->is("MatMul")) return !rewriter.constant(node->input(0)) && !rewriter.constant(node->input(1));
        if (node->is("Where")) {
            value = node->input(1);
        } else if ((node->is("Mul") || node->is("Div")) && rewriter.scalarOperand(*node)) {
            value = rewriter.scalarOperand(*node)->other;
        } else if (node->is("Add")) {
            value = leadsToProduct(rewriter, node->input(0)) ? node->input(0) : node->input(1);
        } else {
            return false;
        }
    }
    return false;
}

/// From the softmax's input up to the product of queries and keys.
std::optional<Match> matchScores(const Rewriter& rewriter, ValueId scores) {
    Match match;
    for (;;) {
        if (!rewriter.vanishes(scores)) return std::nullopt;
        const PlanNode* node = rewriter.producer(scores);
        if (!node) return std::nullopt;
        if (node->is("MatMul")) {
            float scale = match.scale;
            match.q = headOperand(rewriter, node->input(0), &scale);
            match.k = headOperand(rewriter, node->input(1), &scale);
            match.scale = scale;
            return match;
        }
        if (node->is("Mul") || node->is("Div")) {
            const auto scalar = rewriter.scalarOperand(*node);
            if (!scalar || (node->is("Div") && node->input(0) != scalar->other)) return std::nullopt;
            match.scale = node->is("Mul") ? match.scale * scalar->scalar : match.scale / scalar->scalar;
            scores = scalar->other;
        } else if (node->is("Add") && match.scale == 1.0F) {
            const std::size_t at = leadsToProduct(rewriter, node->input(0)) ? 0 : 1;
            match.masks.push_back(node->input(1 - at));
            scores = node->input(at);
        } else if (node->is("Where") && match.scale == 1.0F) {
            match.choices.push_back({node->input(0), node->input(2)});
            scores = node->input(1);
        } else {
            return std::nullopt;
        }
    }
}

bool isOverLastAxis(const PlanNode& softmax) {
    const std::int64_t axis = Attributes(*softmax.proto).integer("axis", softmax.version < 13 ? 1 : -1);
    return axis == -1 || axis == 3;
}

/// One additive mask for all that is added and chosen; kNoValue when there is none.
ValueId joinedMask(Rewriter& rewriter, PlanNode& place, const Match& match, std::int64_t version) {
    std::vector<ValueId> masks = match.masks;
    for (const Match::Choice& choice : match.choices) {
        const ValueId zero = rewriter.graph().addConstant("zero", Tensor::scalar(0.0F));
        masks.push_back(rewriter.insertBefore(place, "", "Where", {choice.condition, zero, choice.fill}, DType::float32, version));
    }
    ValueId joined = kNoValue;
    for (ValueId mask : masks) {
        joined = joined == kNoValue ? mask : rewriter.insertBefore(place, "", "Add", {joined, mask}, DType::float32, version);
    }
    return joined;
}

void fuse(Rewriter& rewriter, PlanGraph& graph, PlanNode& softmax) {
    if (!isOverLastAxis(softmax)) return;
    PlanNode* product = rewriter.soleUser(softmax.output());
    if (!product || !product->is("MatMul") || product->input(0) != softmax.output()) return;
    std::optional<Match> match = matchScores(rewriter, softmax.input(0));
    if (!match) return;
    match->v = headOperand(rewriter, product->input(1), nullptr);
    // The second operand of the first product is Kᵀ: its last two axes change places.
    std::swap(match->k.permutation[2], match->k.permutation[3]);
    const auto q = layoutOf(match->q.permutation);
    const auto k = layoutOf(match->k.permutation);
    const auto v = layoutOf(match->v.permutation);
    if (!q || !k || !v) return;
    for (const Operand* operand : {&match->q, &match->k, &match->v}) {
        if (!hasFourAxes(graph, *operand)) return;
        const DType type = graph.value(operand->value).dtype;
        if (type != DType::float32 && type != DType::undefined) return;
    }
    PlanNode* last = product;
    std::int64_t out = kHeadsFirst;
    PlanNode* after = rewriter.soleUser(product->output());
    if (after && after->is("Transpose") && permutationOf(*after) == Permutation{0, 2, 1, 3}) {
        last = after;
        out = kRowsFirst;
    }
    const ValueId mask = joinedMask(rewriter, *last, *match, softmax.version);
    PlanNode fused = rewriter.make(kFusedDomain, "Attention", {match->q.value, match->k.value, match->v.value, mask}, last->outputs,
                                   last->label());
    setAttribute(protoOf(fused), "scale", match->scale);
    setAttribute(protoOf(fused), "layouts", std::vector<std::int64_t>{*q, *k, *v, out});
    rewriter.replace(*last, std::move(fused));
}

}  // namespace

void fuseAttention(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (node.is("Softmax")) fuse(rewriter, graph, node);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
