// Runs a model's forward pass on the arrays of a .npz file: writes its outputs, measures its time, shows its profile.
// scripts and tests compare what it prints with ONNX Runtime.

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <exception>
#include <string>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/data/readers.h"
#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace {

using namespace tcompress;

struct Arguments {
    std::string model, feeds, outputs;
    exec::Fusion fusion = exec::Fusion::full;
    int threads = 1;
    int iterations = 0;
    bool profile = false;
};

Arguments parse(int count, char** values) {
    Arguments arguments;
    std::vector<std::string> positional;
    for (int i = 1; i < count; ++i) {
        const std::string word = values[i];
        const auto next = [&] { return std::string(i + 1 < count ? values[++i] : ""); };
        if (word == "--outputs") {
            arguments.outputs = next();
        } else if (word == "--fusion") {
            arguments.fusion = next() == "none" ? exec::Fusion::none : exec::Fusion::full;
        } else if (word == "--threads") {
            arguments.threads = std::stoi(next());
        } else if (word == "--iterations") {
            arguments.iterations = std::stoi(next());
        } else if (word == "--profile") {
            arguments.profile = true;
        } else {
            positional.push_back(word);
        }
    }
    if (positional.size() != 2) throw Error("usage: forward_bench MODEL FEEDS.npz [--outputs FILE] [--iterations N]");
    arguments.model = positional[0];
    arguments.feeds = positional[1];
    return arguments;
}

/// One line a run on standard output: elapsed and processor time of all threads, in milliseconds.
void measure(exec::Executor& executor, const exec::Feeds& feeds, int iterations) {
    for (int i = 0; i < iterations; ++i) {
        const auto start = std::chrono::steady_clock::now();
        const std::clock_t processorStart = std::clock();
        executor.run(feeds);
        const double elapsed = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        fmt::print("{:.4f} {:.4f}\n", elapsed, 1e3 * static_cast<double>(std::clock() - processorStart) / CLOCKS_PER_SEC);
    }
}

void showProfile(const exec::Executor& executor) {
    for (const auto& row : executor.profile()) {
        fmt::print(stderr, "{:<28} {:>8} calls {:>12.3f} ms\n", row.opType, row.calls, row.seconds * 1e3);
    }
    fmt::print(stderr, "peak of values: {} bytes\n", executor.peakArenaBytes());
}

int run(const Arguments& arguments) {
    setThreadCount(arguments.threads);
    const auto start = std::chrono::steady_clock::now();
    const ir::Model model = ir::load(arguments.model);
    const auto loaded = std::chrono::steady_clock::now();
    exec::Executor executor(model, {arguments.fusion});
    const auto planned = std::chrono::steady_clock::now();
    exec::Feeds feeds;
    data::Arrays arrays = data::readNpz(arguments.feeds);
    for (const ir::Value* input : model.graph().inputs()) {
        const auto found = arrays.find(input->name());
        if (found != arrays.end()) feeds.emplace(input->name(), found->second);
    }
    const std::vector<Tensor> outputs = executor.run(feeds);
    if (!arguments.outputs.empty()) {
        std::vector<std::pair<std::string, Tensor>> named;
        for (std::size_t i = 0; i < outputs.size(); ++i) named.emplace_back(model.graph().outputs()[i]->name(), outputs[i]);
        data::writeNpz(arguments.outputs, named);
    }
    const auto seconds = [](auto from, auto to) { return std::chrono::duration<double>(to - from).count(); };
    fmt::print(stderr, "load {:.3f} s, plan {:.3f} s\n", seconds(start, loaded), seconds(loaded, planned));
    measure(executor, feeds, arguments.iterations);
    if (arguments.profile) showProfile(executor);
    return 0;
}

}  // namespace

int main(int count, char** values) {
    try {
        return run(parse(count, values));
    } catch (const std::exception& error) {
        fmt::print(stderr, "{}\n", error.what());
        return 1;
    }
}
