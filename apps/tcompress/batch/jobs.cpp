#include "apps/tcompress/batch/jobs.h"

#include <fmt/core.h>
#include <glob.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "lib/pipeline/config.h"
#include "lib/pipeline/records.h"
#include "lib/support/atomic_file.h"
#include "lib/support/diagnostics.h"
#include "lib/support/error.h"
#include "lib/support/sha256.h"
#include "passes/registry.h"

namespace tcompress::cli {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string withModelName(std::string text, const std::string& name) {
    const std::string mark = "{model}";
    for (std::size_t place = text.find(mark); place != std::string::npos;
         place = text.find(mark, place + name.size()))
        text.replace(place, mark.size(), name);
    return text;
}

/// Hashes of files, each read once.
class Hashes {
  public:
    const std::string& of(const fs::path& file) {
        std::string& hash = hashes_[file.string()];
        if (hash.empty()) hash = fs::is_regular_file(file) ? sha256OfFile(file) : "missing";
        return hash;
    }

  private:
    std::map<std::string, std::string> hashes_;
};

/// Data files that the recipe itself names.
std::vector<std::string> recipeData(const Recipe& recipe) {
    pipeline::ConfigSources sources;
    sources.text = recipe.text;
    sources.origin = recipe.name;
    if (recipe.arguments.front() == "-c") {
        sources.origin = recipe.arguments.back();
        sources.folder = fs::path(recipe.arguments.back()).parent_path();
    }
    const pipeline::Config config = pipeline::resolveConfig(sources, passes::registry());
    return {config.calibration.file, config.evaluation.file};
}

/// None for a model that cannot be read: its job will fail and say why.
std::vector<fs::path> externalFilesOrNone(const fs::path& model) {
    try {
        return pipeline::externalFiles(model);
    } catch (const Error&) {
        return {};
    }
}

std::string jobKey(const Job& job, const Recipe& recipe, const std::vector<std::string>& data,
                   Hashes& hashes) {
    std::string text = fmt::format("tcompress {}\n{}\n", TCOMPRESS_VERSION, recipe.text);
    const auto add = [&](const fs::path& file) {
        text += fmt::format("{} {}\n", file.string(), hashes.of(file));
    };
    add(job.model);
    for (const fs::path& file : externalFilesOrNone(job.model)) add(file);
    for (const std::string& file : data)
        if (!file.empty()) add(file);
    for (const std::string& argument : job.arguments) text += argument + "\n";
    return sha256(std::as_bytes(std::span(text)));
}

std::string stemOf(const std::string& file) { return fs::path(file).stem().string(); }

void requireDistinct(const std::vector<std::string>& names, const char* what, Diagnostics& problems) {
    std::set<std::string> seen;
    for (const std::string& name : names)
        if (!seen.insert(name).second)
            problems.add("batch",
                         fmt::format("two {} are called '{}', so their outputs would have the same name; "
                                     "rename one or run two batches",
                                     what, name));
}

}  // namespace

std::vector<std::string> expandPatterns(const std::vector<std::string>& patterns) {
    std::set<std::string> files;
    Diagnostics problems;
    for (const std::string& pattern : patterns) {
        glob_t found{};
        const int result = ::glob(pattern.c_str(), 0, nullptr, &found);
        for (std::size_t i = 0; i < found.gl_pathc; ++i) files.insert(found.gl_pathv[i]);
        ::globfree(&found);
        if (result != 0)
            problems.add(pattern, "no such file; give ONNX files or a pattern that matches some");
    }
    problems.throwIfAny();
    return {files.begin(), files.end()};
}

std::vector<Job> planJobs(const BatchInputs& inputs) {
    std::vector<std::string> models, recipes;
    for (const std::string& model : inputs.models) models.push_back(stemOf(model));
    for (const Recipe& recipe : inputs.recipes) recipes.push_back(recipe.name);
    Diagnostics problems;
    requireDistinct(models, "models", problems);
    requireDistinct(recipes, "recipes", problems);
    problems.throwIfAny();

    Hashes hashes;
    std::vector<Job> jobs;
    for (const Recipe& recipe : inputs.recipes) {
        const std::vector<std::string> named = recipeData(recipe);
        for (std::size_t i = 0; i < models.size(); ++i) {
            Job job;
            job.model = inputs.models[i];
            job.recipe = recipe.name;
            const std::string base = fmt::format("{}.{}", models[i], recipe.name);
            job.output = inputs.folder / (base + ".onnx");
            job.report = inputs.folder / (base + ".json");
            job.log = inputs.folder / (base + ".log");
            const std::string calibration = withModelName(inputs.calibration, models[i]);
            const std::string evaluation = withModelName(inputs.evaluation, models[i]);
            job.arguments = {"run", job.model};
            job.arguments.insert(job.arguments.end(), recipe.arguments.begin(), recipe.arguments.end());
            if (!calibration.empty())
                job.arguments.insert(job.arguments.end(), {"--calibration", calibration});
            if (!evaluation.empty()) job.arguments.insert(job.arguments.end(), {"--evaluation", evaluation});
            job.arguments.insert(job.arguments.end(), inputs.runArguments.begin(), inputs.runArguments.end());
            job.arguments.insert(job.arguments.end(),
                                 {"-o", job.output.string(), "--report", job.report.string()});
            std::vector<std::string> data = {calibration.empty() ? named[0] : calibration,
                                             evaluation.empty() ? named[1] : evaluation};
            job.key = jobKey(job, recipe, data, hashes);
            jobs.push_back(std::move(job));
        }
    }
    return jobs;
}

Manifest::Manifest(fs::path file) : file_(std::move(file)) {
    std::error_code error;
    if (!fs::is_regular_file(file_, error)) return;
    std::ifstream stream(file_);
    const json document = json::parse(stream, nullptr, false);
    if (!document.is_object() || !document.contains("outputs")) return;
    try {
        for (const auto& [name, entry] : document["outputs"].items())
            entries_[name] = {entry.at("key"), entry.at("exit_code"), entry.at("bytes")};
    } catch (const json::exception&) {
        entries_.clear();
    }
}

bool Manifest::isUpToDate(const Job& job) const {
    const auto entry = entries_.find(job.output.filename().string());
    std::error_code error;
    return entry != entries_.end() && entry->second.key == job.key &&
           fs::is_regular_file(job.report, error) &&
           fs::file_size(job.output, error) == entry->second.bytes && !error;
}

int Manifest::exitCode(const Job& job) const { return entries_.at(job.output.filename().string()).exitCode; }

void Manifest::add(const Job& job, int exitCode) {
    entries_[job.output.filename().string()] = {job.key, exitCode, fs::file_size(job.output)};
    write();
}

void Manifest::write() const {
    json document = {{"tool_version", TCOMPRESS_VERSION}, {"outputs", json::object()}};
    for (const auto& [name, entry] : entries_)
        document["outputs"][name] = {
            {"key", entry.key}, {"exit_code", entry.exitCode}, {"bytes", entry.bytes}};
    writeFileAtomically(file_, document.dump(2) + "\n");
}

}  // namespace tcompress::cli
