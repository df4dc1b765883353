#include "lib/exec/optimize.h"

namespace tcompress::exec {

PlanGraph preparedGraph(const ir::Model& model, ExecutorOptions options, const Observer* observer) {
    PlanGraph graph = planGraphOf(model);
    for (PlanValue& value : graph.values) {
        if (observer && value.source && observer->wants(*value.source)) value.kept = true;
    }
    if (options.fusion == Fusion::none) return graph;
    return graph;
}

}  // namespace tcompress::exec
