#pragma once
// The jobs of a batch: every model with every recipe, and what makes each of them up to date.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace tcompress::cli {

/// A pipeline file or a preset.
struct Recipe {
    std::string name;                    ///< in file names and tables
    std::vector<std::string> arguments;  ///< {"-c", FILE} or {"--preset", NAME}
    std::string text;                    ///< what is hashed
};

struct Job {
    std::string model;
    std::string recipe;
    std::vector<std::string> arguments;  ///< of `tcompress run`
    std::filesystem::path output, report, log;
    /// SHA-256 over the tool's version and the contents of everything that goes in.
    std::string key;
};

struct BatchInputs {
    std::vector<std::string> models;  ///< files; patterns are expanded
    std::vector<Recipe> recipes;
    std::string calibration,
        evaluation;  ///< "{model}" stands for the model's name; empty = as the recipe says
    std::vector<std::string> runArguments;  ///< further arguments of every run
    std::filesystem::path folder;
};

/// Files that match the patterns (`*`, `?`, `[…]` as in a shell), sorted, each once. A pattern without a
/// match and a file that does not exist are problems: throws ConfigError with all of them.
std::vector<std::string> expandPatterns(const std::vector<std::string>& patterns);

/// Throws ConfigError when two models or two recipes have the same name, because their outputs would too.
std::vector<Job> planJobs(const BatchInputs& inputs);

/// Keys of outputs that were made, kept in FOLDER/manifest.json.
class Manifest {
  public:
    /// A file that is missing or cannot be read gives an empty manifest.
    explicit Manifest(std::filesystem::path file);
    bool isUpToDate(const Job& job) const;
    /// Exit code of the run that made an up-to-date output.
    int exitCode(const Job& job) const;
    /// Notes the output as made and writes the file.
    void add(const Job& job, int exitCode);

  private:
    struct Entry {
        std::string key;
        int exitCode = 0;
        std::uint64_t bytes = 0;
    };
    void write() const;

    std::filesystem::path file_;
    std::map<std::string, Entry> entries_;
};

}  // namespace tcompress::cli
