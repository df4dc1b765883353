#include "lib/exec/optimize/optimize.h"

#include "lib/exec/cut.h"
#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

PlanGraph preparedGraph(const ir::Model& model, const ExecutorOptions& options, const Observer* observer) {
    PlanGraph graph = planGraphOf(model);
    cutGraph(graph, options, observer);
    if (options.fusion == Fusion::none) return graph;
    widenFloats(graph);
    foldConstants(graph, StoredMatrices::keep);
    removeIdentities(graph);
    foldKnownShapes(graph);
    foldConstants(graph, StoredMatrices::keep);
    moveQuantizationUp(graph);
    fuseQuantizedLinears(graph);
    fuseCodedLinears(graph);
    foldConstants(graph, StoredMatrices::fold);
    gatherBeforeDecoding(graph);
    fuseActivations(graph);
    fuseNormalizations(graph);
    fuseRotary(graph);
    fuseInt8Linears(graph);
    fuseLinears(graph);
    forwardShapes(graph);
    // Before tables, which would take the roundings between scores.
    fuseQuantizedAttention(graph);
    tabulateCodes(graph);
    fuseCodedRows(graph);
    fuseAttention(graph);
    mergeProjections(graph);
    fuseEpilogues(graph);
    absorbQuantization(graph);
    return graph;
}

}  // namespace tcompress::exec
