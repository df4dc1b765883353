// Operators that only move elements work on codes as on values: QuantizeLinear(Transpose(x)) =
// Transpose(QuantizeLinear(x)). Quantization moves up through them, where it meets the dequantization of the
// same code (both vanish) or the operator that makes x, which can then write codes itself.

#include <algorithm>
#include <set>

#include "lib/exec/operator.h"
#include "lib/exec/optimize/codes.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

/// Whether output 0 holds elements of input 0, moved, and nothing else.
bool onlyMoves(const PlanNode& node) {
    static const std::set<std::string, std::less<>> kinds{
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Gather", "Slice", "Expand"};
    return node.domain.empty() && kinds.contains(node.opType()) && node.outputs.size() == 1;
}

/// Whether nobody reads the value but this node and those that ask its shape.
bool readOnlyBy(const Rewriter& rewriter, ValueId value, const PlanNode& node) {
    if (rewriter.graph().value(value).kept) return false;
    const auto& users = rewriter.users(value);
    return std::all_of(users.begin(), users.end(),
                       [&](const PlanNode* user) { return user == &node || user->is("Shape"); });
}

void redirectShapes(Rewriter& rewriter, ValueId from, ValueId to) {
    const std::vector<PlanNode*> users = rewriter.users(from);
    for (PlanNode* user : users) {
        if (user->is("Shape")) rewriter.replace(*user, rewriter.copyOf(*user, {to}, user->outputs));
    }
}

/// Q(move(x)) → move(Q(x)), as far up as it goes. Both take the place of the move: those that ask its shape may stand
/// between it and the quantization.
void moveUp(Rewriter& rewriter, PlanNode& quantize, const kernels::Int8Code& code) {
    PlanNode* at = &quantize;
    for (;;) {
        PlanNode* move = rewriter.producer(at->input(0));
        if (!move || !onlyMoves(*move) || rewriter.constant(move->input(0)) ||
            !readOnlyBy(rewriter, move->output(), *at))
            return;
        std::vector<ValueId> inputs = at->inputs;
        inputs[0] = move->input(0);
        const ValueId early =
            rewriter.insertBefore(*move, at->domain, at->opType(), std::move(inputs), code.type, at->version);
        PlanNode* moved = rewriter.producer(early);
        for (const auto& attribute : at->proto->attribute()) *protoOf(*moved).add_attribute() = attribute;
        std::vector<ValueId> others = move->inputs;
        others[0] = early;
        redirectShapes(rewriter, move->output(), at->output());
        rewriter.replace(*move, rewriter.copyOf(*move, std::move(others), at->outputs));
        // Nothing is left to do where the quantization was.
        const ValueId unread = rewriter.graph().addValue({});
        rewriter.replace(*at, rewriter.make("", "Identity", {early}, {unread}, at->label(), 1));
        at = moved;
    }
}

/// Q(DQ(q)) of one code is q.
void removePair(Rewriter& rewriter, PlanNode& quantize, const kernels::Int8Code& code) {
    const PlanNode* dequantize = rewriter.producer(quantize.input(0));
    const auto other =
        dequantize && isDequantize(*dequantize) ? tensorCode(rewriter, dequantize) : std::nullopt;
    if (!other || !sameCode(code, *other)) return;
    if (rewriter.graph().value(quantize.output()).kept)
        rewriter.replace(quantize, rewriter.make("", "Identity", {dequantize->input(0)}, quantize.outputs,
                                                 quantize.label(), 1));
    else
        rewriter.redirect(quantize.output(), dequantize->input(0));
}

}  // namespace

void moveQuantizationUp(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        const auto code = isQuantize(node) ? tensorCode(rewriter, &node) : std::nullopt;
        if (code) moveUp(rewriter, node, *code);
    });
    rewriter.forEach([&](PlanNode& node) {
        const auto code = isQuantize(node) ? tensorCode(rewriter, &node) : std::nullopt;
        if (code) removePair(rewriter, node, *code);
        if (isDequantize(node)) redirectShapes(rewriter, node.output(), node.input(0));
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
