// tcompress batch: every model with every recipe. Each job is a `tcompress run` of its own, N at a time; one
// that fails does not stop the rest.

#include <fmt/core.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <thread>

#include "apps/tcompress/batch/child_process.h"
#include "apps/tcompress/batch/summary.h"
#include "apps/tcompress/command.h"
#include "apps/tcompress/presets.h"
#include "apps/tcompress/tables.h"
#include "lib/pipeline/config.h"
#include "lib/pipeline/json_text.h"
#include "lib/support/error.h"
#include "lib/support/log.h"
#include "lib/support/parallel.h"
#include "passes/registry.h"

namespace tcompress::cli {

namespace {

namespace fs = std::filesystem;

struct Options {
    std::vector<std::string> models, configs, presets;
    std::string folder, calibration, evaluation;
    std::int64_t jobs = 1;
    bool resume = false, noLatency = false;
};

std::vector<Recipe> readRecipes(const Options& options) {
    std::vector<Recipe> recipes;
    for (const std::string& file : options.configs)
        recipes.push_back({fs::path(file).stem().string(), {"-c", file}, pipeline::readConfigText(file)});
    for (const std::string& name : options.presets)
        recipes.push_back({name, {"--preset", name}, std::string(findPreset(name).text)});
    if (recipes.empty()) throw ConfigError("batch: no recipe is named; give -c FILE or --preset NAME");
    return recipes;
}

/// Runs jobs as child processes and keeps the rows in the order of the jobs.
class BatchRun {
  public:
    BatchRun(std::vector<Job> jobs, Manifest manifest, Session& session)
        : jobs_(std::move(jobs)), manifest_(std::move(manifest)), session_(session), rows_(jobs_.size()) {}

    void skipUpToDate() {
        for (std::size_t i = 0; i < jobs_.size(); ++i) {
            if (!manifest_.isUpToDate(jobs_[i])) continue;
            rows_[i] = summarise(jobs_[i], JobStatus::upToDate, manifest_.exitCode(jobs_[i]));
            finished_[i] = true;
        }
    }

    std::vector<SummaryRow> run(std::int64_t atOnce) {
        const std::string program = ownProgram();
        std::size_t next = 0;
        try {
            while (next < jobs_.size() || !running_.empty()) {
                while (next < jobs_.size() && static_cast<std::int64_t>(running_.size()) < atOnce) {
                    if (!finished_[next]) start(program, next);
                    ++next;
                }
                collect();
                session_.progress->step(0);
            }
        } catch (...) {
            stop();
            throw;
        }
        return rows_;
    }

  private:
    void start(const std::string& program, std::size_t index) {
        std::vector<std::string> arguments = {program};
        arguments.insert(arguments.end(), jobs_[index].arguments.begin(), jobs_[index].arguments.end());
        running_[startProcess(arguments, jobs_[index].log)] = index;
    }

    void collect() {
        const FinishedProcess child = finishedProcess();
        const auto entry = running_.find(child.pid);
        if (entry == running_.end()) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
            return;
        }
        const std::size_t index = entry->second;
        running_.erase(entry);
        finished_[index] = true;
        const Job& job = jobs_[index];
        JobStatus status = JobStatus::failed;
        if (child.exitCode == static_cast<int>(ExitCode::done)) status = JobStatus::done;
        if (child.exitCode == static_cast<int>(ExitCode::constraintMissed))
            status = JobStatus::constraintMissed;
        if (status != JobStatus::failed) manifest_.add(job, child.exitCode);
        rows_[index] = summarise(job, status, child.exitCode);
        log::info("{} of {}: {} with {}: {}{}", std::count(finished_.begin(), finished_.end(), true),
                  jobs_.size(), job.model, job.recipe, name(status),
                  rows_[index].error.empty() ? "" : " (" + rows_[index].error + ")");
    }

    /// Asks the running jobs to stop and waits for them, so that they tidy up.
    void stop() {
        for (const auto& [pid, index] : running_) ::kill(pid, SIGINT);
        while (!running_.empty()) {
            const FinishedProcess child = finishedProcess();
            if (running_.erase(child.pid) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }

    std::vector<Job> jobs_;
    Manifest manifest_;
    Session& session_;
    std::vector<SummaryRow> rows_;
    std::vector<bool> finished_ = std::vector<bool>(jobs_.size(), false);
    std::map<pid_t, std::size_t> running_;
};

/// The worst that happened: a failed job's own code, else a missed constraint.
ExitCode overall(const std::vector<SummaryRow>& rows) {
    int failed = 0;
    bool missed = false;
    for (const SummaryRow& row : rows) {
        if (row.status == JobStatus::failed) failed = std::max(failed, std::min(row.exitCode, 4));
        missed = missed || row.exitCode == static_cast<int>(ExitCode::constraintMissed);
    }
    if (failed > 0) return static_cast<ExitCode>(failed);
    return missed ? ExitCode::constraintMissed : ExitCode::done;
}

ExitCode execute(const Options& options, Session& session) {
    BatchInputs inputs;
    inputs.recipes = readRecipes(options);
    inputs.models = expandPatterns(options.models);
    inputs.calibration = options.calibration;
    inputs.evaluation = options.evaluation;
    inputs.folder = options.folder;
    std::error_code error;
    fs::create_directories(inputs.folder, error);
    if (error)
        throw ConfigError(fmt::format("{}: cannot be made: {}", inputs.folder.string(), error.message()));

    if (options.noLatency) inputs.runArguments.push_back("--no-latency");
    std::vector<Job> jobs = planJobs(inputs);
    // Not part of the key: the output does not depend on it.
    const std::int64_t threads = std::max<std::int64_t>(1, threadCount() / options.jobs);
    for (Job& job : jobs) job.arguments.insert(job.arguments.end(), {"--threads", std::to_string(threads)});

    BatchRun batch(std::move(jobs), Manifest(inputs.folder / "manifest.json"), session);
    if (options.resume) batch.skipUpToDate();
    const std::vector<SummaryRow> rows = batch.run(options.jobs);
    std::cout << writeSummary(inputs.folder, rows);
    return overall(rows);
}

}  // namespace

Command batchCommand() {
    auto options = std::make_shared<Options>();
    Command command{"batch", "run many models through many pipelines", {}, {}};
    OptionList& list = command.options;
    list.positionals("MODELS", options->models, Presence::required,
                     "ONNX files or patterns such as 'models/*.onnx'");
    list.values("-c,--config", "FILE", options->configs, "pipeline file");
    list.values("--preset", "NAME", options->presets, "ready pipeline");
    list.value("-o,--output", "FOLDER", options->folder,
               "folder for the outputs, reports, logs and the summary")
        .presence = Presence::required;
    list.value("--calibration", "FILE", options->calibration,
               "as in run; {model} stands for the model's name");
    list.value("--evaluation", "FILE", options->evaluation, "as in run; {model} stands for the model's name");
    list.integer("-j,--jobs", "N", options->jobs, {1, 1024}, "runs at a time; they share the threads");
    list.flag("--resume", options->resume,
              "skip outputs that were made from the same model, pipeline, data and version");
    list.flag("--no-latency", options->noLatency, "do not measure latency, as runs side by side disturb it");
    command.action = [options](Session& session) { return execute(*options, session); };
    return command;
}

}  // namespace tcompress::cli
