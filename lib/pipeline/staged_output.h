#pragma once
// The place where an output model is written and tried before it takes its target's place: a hidden folder
// beside the target, so that the last step is a rename. Whatever ends the run before commit() leaves the
// target as it was.

#include <filesystem>
#include <vector>

namespace tcompress::pipeline {

class StagedOutput {
  public:
    /// Throws Error naming the target and the system's reason when the folder cannot be written. "-" as
    /// target is standard output: staged in the system's folder for temporary files.
    explicit StagedOutput(std::filesystem::path target);
    ~StagedOutput();
    StagedOutput(const StagedOutput&) = delete;
    StagedOutput& operator=(const StagedOutput&) = delete;

    /// Where to write the model meanwhile; it has the target's file name, because external data are named
    /// after it.
    const std::filesystem::path& path() const { return path_; }
    /// Moves the files (which lie in path()'s folder) to the target's folder, the model file last.
    void commit(const std::vector<std::filesystem::path>& files);

  private:
    std::filesystem::path target_;
    std::filesystem::path folder_;
    std::filesystem::path path_;
};

/// Removes the staging folder of an unfinished run. Safe to call in a signal handler.
void removeStagedOutput() noexcept;

/// What may happen when the output is the very file that is read: nothing, nothing unless the user forces it, or that it is
/// replaced.
enum class InputOverwrite { never, refuse, allow };

/// Refuses, before any work is done, an output that cannot be written: its folder is missing or read-only, it
/// is a folder, or it is one of the inputs (other outputs count as such; they need not exist). "-", standard output, and
/// empty names among the inputs are no files. Throws ConfigError.
void checkOutput(const std::filesystem::path& output, const std::vector<std::filesystem::path>& inputs,
                 InputOverwrite overwrite);

}  // namespace tcompress::pipeline
