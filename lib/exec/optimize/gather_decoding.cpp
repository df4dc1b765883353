// Gather(DequantizeLinear(table, scale), i) reads a few rows of a large table: gather the stored rows (and their scales
// where there is one a row, or blocks within a row), then decode those. The same for Gather(Cast(table), i).

#include "lib/exec/attributes.h"
#include "lib/exec/operator.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

namespace {

bool gathersRows(const PlanNode& node) { return Attributes(*node.proto).integer("axis", 0) == 0; }

void gatherThenCast(Rewriter& rewriter, PlanNode& gather, const PlanNode& cast) {
    const Tensor* table = rewriter.constant(cast.input(0));
    const ValueId rows = rewriter.insertBefore(gather, "", "Gather", {cast.input(0), gather.input(1)}, table->dtype(), gather.version);
    PlanNode decoded = rewriter.make("", "Cast", {rows}, gather.outputs, gather.label(), cast.version);
    setAttribute(protoOf(decoded), "to", Attributes(*cast.proto).integer("to", 0));
    rewriter.replace(gather, std::move(decoded));
}

void gatherThenDequantize(Rewriter& rewriter, PlanNode& gather, const PlanNode& dequantize) {
    const Tensor* table = rewriter.constant(dequantize.input(0));
    const Tensor* scale = rewriter.constant(dequantize.input(1));
    const Attributes attributes(*dequantize.proto);
    const std::int64_t axis = attributes.integer("axis", 1);
    if (!table || !scale || table->rank() != 2 || attributes.integer("output_dtype", 0) > 1 || scale->dtype() != DType::float32) return;
    const std::int64_t bits = bitsPerElement(table->dtype());
    if (table->shape()[1] * bits % 8 != 0) return;
    const bool perTensor = scale->size() == 1 && scale->rank() <= 1;
    const bool perRow = scale->rank() == 1 && (axis == 0 || axis == -2) && scale->size() == table->shape()[0];
    const bool inBlocks = scale->rank() == 2 && (axis == 1 || axis == -1);
    if (perTensor || perRow) {
        PlanNode fused = rewriter.make(kFusedDomain, "GatherDequantize",
                                       {dequantize.input(0), dequantize.input(1), dequantize.input(2), gather.input(1)},
                                       gather.outputs, gather.label());
        rewriter.replace(gather, std::move(fused));
        return;
    }
    if (!inBlocks) return;
    const Tensor* zero = rewriter.constant(dequantize.input(2));
    if (zero && zero->shape()[1] * bits % 8 != 0) return;
    const auto rowsOf = [&](ValueId stored, DType type) {
        return rewriter.insertBefore(gather, "", "Gather", {stored, gather.input(1)}, type, gather.version);
    };
    const ValueId rows = rowsOf(dequantize.input(0), table->dtype());
    const ValueId scales = rowsOf(dequantize.input(1), scale->dtype());
    const ValueId zeros = zero ? rowsOf(dequantize.input(2), zero->dtype()) : kNoValue;
    PlanNode decoded = rewriter.make("", "DequantizeLinear", {rows, scales, zeros}, gather.outputs, gather.label(), dequantize.version);
    setAttribute(protoOf(decoded), "axis", std::int64_t{-1});
    setAttribute(protoOf(decoded), "block_size", attributes.integer("block_size", 0));
    rewriter.replace(gather, std::move(decoded));
}

}  // namespace

void gatherBeforeDecoding(PlanGraph& graph) {
    Rewriter rewriter(graph);
    rewriter.forEach([&](PlanNode& node) {
        if (!node.is("Gather") || !gathersRows(node)) return;
        const PlanNode* source = rewriter.producer(node.input(0));
        if (!source || !rewriter.constant(source->input(0))) return;
        if (source->is("Cast")) gatherThenCast(rewriter, node, *source);
        if (source->is("DequantizeLinear")) gatherThenDequantize(rewriter, node, *source);
    });
    rewriter.finish();
}

}  // namespace tcompress::exec
