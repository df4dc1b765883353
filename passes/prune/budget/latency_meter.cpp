#include "passes/prune/budget/latency_meter.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "lib/measure/machine.h"
#include "lib/support/parallel.h"
#include "lib/support/sha256.h"

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

LatencyMeter::LatencyMeter(const ir::Model& model, exec::Feeds sample, int threads)
    : model_(model), sample_(std::move(sample)), threads_(threads), original_(model) {}

double LatencyMeter::seconds(const ir::Model& variant) {
    constexpr int kWarmup = 2, kFewestRuns = 8, kMostRuns = 60;
    constexpr double kEnoughSeconds = 0.4;
    const ThreadScope threads(threads_);
    exec::Executor executor(variant);
    for (int run = 0; run < kWarmup; ++run) {
        secondsOf(original_, sample_);
        secondsOf(executor, sample_);
    }
    double original = std::numeric_limits<double>::infinity(), other = original, spent = 0;
    for (int run = 0; run < kMostRuns && (run < kFewestRuns || spent < kEnoughSeconds); ++run) {
        const double first = secondsOf(original_, sample_), second = secondsOf(executor, sample_);
        original = std::min(original, first);
        other = std::min(other, second);
        spent += first + second;
    }
    if (originalSeconds_ == 0) originalSeconds_ = original;
    return &variant == &model_ ? originalSeconds_ : originalSeconds_ * other / original;
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
