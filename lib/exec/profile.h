#pragma once
// Where the time of a model goes: by operator of the plan and kernel, and which kernels refused and why.

#include <cstdint>
#include <string>
#include <vector>

#include "lib/exec/executor.h"

namespace tcompress::exec {

struct OperatorTime {
    std::string opType;  ///< of the plan: fused operators under their own names
    std::string
        kernel;  ///< those of kernels/ that it ran, joined by " + "; empty for operators without a choice
    std::int64_t calls = 0;
    double seconds = 0;  ///< of all calls, inner ones of control flow included
};

struct KernelRefusal {
    std::string opType, kernel, reason;
    std::int64_t calls = 0;
};

struct ModelProfile {
    std::vector<OperatorTime> operators;  ///< slowest first
    std::vector<KernelRefusal> refusals;
    std::int64_t runs = 0;
    double seconds = 0;  ///< of all runs, wall clock
};

/// Plans the model, runs it once unobserved and then `runs` times on the same feeds. Throws what an Executor
/// throws.
ModelProfile profileModel(const ir::Model& model, const Feeds& feeds, std::int64_t runs);

}  // namespace tcompress::exec
