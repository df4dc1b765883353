#pragma once
// Child processes whose output goes to a log file. Jobs of a batch are processes and no threads, so that one
// that runs out of memory or crashes does not take the others with it.

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace tcompress::cli {

/// Starts a program with standard output and error written to `log`. Throws Error when it cannot be started.
pid_t startProcess(const std::vector<std::string>& arguments, const std::filesystem::path& log);

struct FinishedProcess {
    pid_t pid = 0;
    int exitCode = 0;  ///< 128 + signal when a signal ended it
};

/// A child that has ended, or pid 0 when none has.
FinishedProcess finishedProcess();

/// The running program's own file.
std::string ownProgram();

}  // namespace tcompress::cli
