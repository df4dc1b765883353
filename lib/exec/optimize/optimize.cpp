#include "lib/exec/optimize/optimize.h"

#include "lib/exec/optimize/patterns.h"

namespace tcompress::exec {

PlanGraph preparedGraph(const ir::Model& model, ExecutorOptions options, const Observer* observer) {
    PlanGraph graph = planGraphOf(model);
    for (PlanValue& value : graph.values) {
        if (observer && value.source && observer->wants(*value.source)) value.kept = true;
    }
    if (options.fusion == Fusion::none) return graph;
    widenFloats(graph);
    foldConstants(graph);
    removeIdentities(graph);
    foldKnownShapes(graph);
    foldConstants(graph);
    gatherBeforeDecoding(graph);
    fuseActivations(graph);
    fuseNormalizations(graph);
    fuseInt8Linears(graph);
    fuseLinears(graph);
    forwardShapes(graph);
    fuseAttention(graph);
    mergeProjections(graph);
    fuseEpilogues(graph);
    return graph;
}

}  // namespace tcompress::exec
