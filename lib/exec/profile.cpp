#include "lib/exec/profile.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "lib/exec/optimize/optimize.h"
#include "lib/exec/program.h"
#include "lib/support/error.h"

namespace tcompress::exec {

ModelProfile profileModel(const ir::Model& model, const Feeds& feeds, std::int64_t runs) {
    Profile profile(Profile::Detail::kernels);
    Allocator allocator;
    const Program program(preparedGraph(model, {}, nullptr), profile, nullptr);
    const auto run = [&] {
        std::vector<Datum> inputs;
        for (const ir::Value* input : model.graph().inputs()) {
            const auto found = feeds.find(input->name());
            if (found == feeds.end()) throw DataError(fmt::format("input '{}' is not fed", input->name()));
            inputs.emplace_back(found->second);
        }
        program.run(allocator, std::move(inputs));
    };
    run();
    profile.clear();
    const auto start = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < runs; ++i) run();
    ModelProfile result;
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.runs = runs;
    for (const auto& [opType, entry] : profile.entries()) {
        for (const auto& [kernel, time] : entry.byKernel)
            result.operators.push_back({opType, kernel, time.calls, time.seconds});
        for (const auto& [refusal, calls] : entry.refusals)
            result.refusals.push_back({opType, refusal.first, refusal.second, calls});
    }
    std::stable_sort(result.operators.begin(), result.operators.end(),
                     [](const OperatorTime& a, const OperatorTime& b) { return a.seconds > b.seconds; });
    return result;
}

}  // namespace tcompress::exec
