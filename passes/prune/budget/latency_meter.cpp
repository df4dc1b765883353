#include "passes/prune/budget/latency_meter.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "lib/measure/machine.h"
#include "lib/support/parallel.h"
#include "lib/support/sha256.h"
#include "passes/support/layer_runs.h"

namespace tcompress::passes {
namespace {

/// Sets the number of threads for as long as it lives.
class ThreadScope {
  public:
    explicit ThreadScope(int threads) : before_(threadCount()) { setThreadCount(threads); }
    ~ThreadScope() { setThreadCount(before_); }
    ThreadScope(const ThreadScope&) = delete;
    ThreadScope& operator=(const ThreadScope&) = delete;

  private:
    int before_;
};

double secondsOf(exec::Executor& executor, const exec::Feeds& feeds) {
    const auto start = std::chrono::steady_clock::now();
    executor.run(feeds);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

double LatencyMeter::seconds(const ir::Model& model) const {
    // Until the least has not become less by a hundredth for a while.
    constexpr int kWarmup = 2, kQuietRuns = 25, kMostRuns = 400;
    constexpr double kEnoughSeconds = 0.3, kMostSeconds = 3;
    const ThreadScope threads(threads_);
    exec::Executor executor(model);
    const exec::Feeds sample = feedsLeft(model, sample_);
    for (int run = 0; run < kWarmup; ++run) secondsOf(executor, sample);
    double least = std::numeric_limits<double>::infinity(), spent = 0;
    for (int run = 0, quiet = 0; run < kMostRuns && spent < kMostSeconds && (quiet < kQuietRuns || spent < kEnoughSeconds);
         ++run) {
        const double seconds = secondsOf(executor, sample);
        quiet = seconds < 0.99 * least ? 0 : quiet + 1;
        least = std::min(least, seconds);
        spent += seconds;
    }
    return least;
}

std::string latencyKey(const ir::Model& model, const exec::Feeds& sample, int threads) {
    const measure::Machine machine = measure::describeMachine();
    std::string text = fmt::format("{} [{}] {} cores, {} threads\n", machine.cpuModel,
                                   fmt::join(machine.cpuFeatures, " "), machine.logicalCores, threads);
    for (const auto& [input, tensor] : sample) text += fmt::format("{} [{}]\n", input, fmt::join(tensor.shape(), ", "));
    for (const auto& node : model.graph().nodes()) {
        text += node->domain() + "." + node->opType();
        for (const ir::Value* input : node->inputs())
            if (input != nullptr && input->constant() != nullptr)
                text += fmt::format(" {}[{}]", tcompress::name(input->constant()->dtype()), fmt::join(input->constant()->shape(), ","));
        text += '\n';
    }
    return sha256(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace tcompress::passes
