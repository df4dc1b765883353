#include "passes/support/raised_opset.h"

#include <fmt/core.h>

#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace tcompress::passes {

void raiseOpsetFor(ir::Model& model, std::int64_t needed, std::string_view what, std::string_view pass,
                   pipeline::PassReport& report) {
    const std::int64_t before = model.opset();
    if (before >= needed) return;
    try {
        model = ir::raiseOpset(std::move(model), needed);
    } catch (const ModelError& problem) {
        throw PassError(fmt::format("{}: {} need opset {} and the model has {}: {}", pass, what, needed, before,
                                    problem.what()));
    }
    report.notes.push_back(fmt::format("opset raised from {} to {}, which {} need", before, needed, what));
}

}  // namespace tcompress::passes
