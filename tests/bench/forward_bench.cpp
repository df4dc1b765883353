// Runs a model's forward pass on command, so that scripts can measure it in turns with another runtime that lives in a
// process of its own (threads of one that wait actively would disturb the other).
//
//   forward_bench MODEL [--threads N] [--fusion none]      then, on standard input, one command a line:
//   open MODEL      another model from now on                 → "ok"
//   setup           load, plan, pack anew                     → milliseconds
//   feeds FILE.npz  inputs of the following runs; one run     → "ok"
//   run N           N runs                                    → milliseconds of each
//   decode N        N steps, past key/values fed back         → milliseconds of each
//   baseline        what is held now is the process's own     → "ok"
//   memory          most that was held since the baseline     → MiB above it
//   outputs FILE    of one run, as .npz                       → "ok"
//   profile         by operator, of the runs since set-up     → a line each, then an empty one

#include <fmt/core.h>

#include <chrono>
#include <exception>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
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

/// A field of /proc/self/status in MiB.
double statusMegabytes(const std::string& field) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with(field + ":")) return std::stod(line.substr(field.size() + 1)) / 1024;
    throw Error("the system does not tell " + field);
}

template <class Body>
double milliseconds(Body body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

class Bench {
  public:
    Bench(std::string path, exec::Fusion fusion)
        : path_(std::move(path)), fusion_(fusion) {
        setBaseline();
    }

    std::string answer(const std::string& line) {
        std::istringstream words(line);
        std::string command, file;
        words >> command >> file;
        if (command == "open") return open(file);
        if (command == "baseline") return setBaseline();
        if (command == "setup") return setUp();
        if (command == "feeds") return readFeeds(file);
        if (command == "run") return repeated(std::stoi(file), [&] { executor_->run(feeds_); });
        if (command == "decode") return decode(std::stoi(file));
        if (command == "memory") return fmt::format("{:.1f}", statusMegabytes("VmHWM") - ownMegabytes_);
        if (command == "outputs") return writeOutputs(file);
        if (command == "profile") return profile();
        throw Error("unknown command: " + line);
    }

  private:
    void close() {
        executor_.reset();
        model_.reset();
    }

    std::string open(const std::string& path) {
        close();
        path_ = path;
        return "ok";
    }

    std::string setBaseline() {
        std::ofstream("/proc/self/clear_refs") << 5;  // the peak starts again from what is held now
        ownMegabytes_ = statusMegabytes("VmRSS");
        return "ok";
    }

    std::string setUp() {
        close();
        return fmt::format("{:.3f}", milliseconds([&] {
                               model_.emplace(ir::load(path_));
                               executor_.emplace(*model_, exec::ExecutorOptions{fusion_});
                           }));
    }

    std::string readFeeds(const std::string& file) {
        feeds_.clear();
        data::Arrays arrays = data::readNpz(file);
        for (const ir::Value* input : model_->graph().inputs()) {
            const auto found = arrays.find(input->name());
            if (found != arrays.end()) feeds_.emplace(input->name(), found->second);
        }
        executor_->run(feeds_);
        return "ok";
    }

    template <class Body>
    static std::string repeated(int count, Body body) {
        std::string times;
        for (int i = 0; i < count; ++i) times += fmt::format("{:.4f} ", milliseconds(body));
        return times;
    }

    /// The outputs after the first are what the inputs called past… become, in order; a mask grows by a one.
    std::string decode(int steps) {
        exec::Feeds feeds = feeds_;
        std::vector<std::string> past;
        std::string mask;
        for (const ir::Value* input : model_->graph().inputs()) {
            if (input->name().starts_with("past")) past.push_back(input->name());
            if (input->name().find("mask") != std::string::npos) mask = input->name();
        }
        return repeated(steps, [&] {
            std::vector<Tensor> outputs = executor_->run(feeds);
            for (std::size_t i = 0; i < past.size(); ++i) feeds[past[i]] = std::move(outputs[i + 1]);
            const std::vector<std::int64_t> ones(static_cast<std::size_t>(feeds[mask].size()) + 1, 1);
            feeds[mask] = Tensor::of<std::int64_t>({1, static_cast<std::int64_t>(ones.size())}, ones);
        });
    }

    std::string writeOutputs(const std::string& file) {
        const std::vector<Tensor> outputs = executor_->run(feeds_);
        std::vector<std::pair<std::string, Tensor>> named;
        for (std::size_t i = 0; i < outputs.size(); ++i)
            named.emplace_back(model_->graph().outputs()[i]->name(), outputs[i]);
        data::writeNpz(file, named);
        return "ok";
    }

    std::string profile() const {
        std::string rows;
        for (const auto& row : executor_->profile())
            rows += fmt::format("{:<28} {:>8} calls {:>12.3f} ms\n", row.opType, row.calls, row.seconds * 1e3);
        return rows + fmt::format("peak of values: {} bytes\n", executor_->peakArenaBytes());
    }

    std::string path_;
    const exec::Fusion fusion_;
    double ownMegabytes_ = 0;
    std::optional<ir::Model> model_;
    std::optional<exec::Executor> executor_;
    exec::Feeds feeds_;
};

int run(int count, char** values) {
    std::string model;
    exec::Fusion fusion = exec::Fusion::full;
    for (int i = 1; i < count; ++i) {
        const std::string word = values[i];
        if (word == "--threads" && i + 1 < count) {
            setThreadCount(std::stoi(values[++i]));
        } else if (word == "--fusion" && i + 1 < count) {
            fusion = std::string(values[++i]) == "none" ? exec::Fusion::none : exec::Fusion::full;
        } else {
            model = word;
        }
    }
    if (model.empty()) throw Error("usage: forward_bench MODEL [--threads N] [--fusion none] < COMMANDS");
    Bench bench(model, fusion);
    for (std::string line; std::getline(std::cin, line);) {
        fmt::print("{}\n", bench.answer(line));
        std::fflush(stdout);
    }
    return 0;
}

}  // namespace

int main(int count, char** values) {
    try {
        return run(count, values);
    } catch (const std::exception& error) {
        fmt::print(stderr, "{}\n", error.what());
        return 1;
    }
}
