#pragma once
// A whole run: load, passes, save, check what was saved, evaluate, report.

#include <filesystem>
#include <string>

#include "lib/pipeline/config.h"
#include "lib/pipeline/staged_output.h"
#include "lib/report/report.h"
#include "lib/support/progress.h"

namespace tcompress::pipeline {

struct RunOptions {
    std::string commandLine;           ///< as it was typed, for the report and the reproducer
    std::filesystem::path dumpFolder;  ///< the model after each pass is written here; empty = not at all
    InputOverwrite overwrite = InputOverwrite::refuse;
    Progress* progress = nullptr;  ///< null: silent
};

/// Runs the config's pipeline on its model and writes its output and reports. Nothing is written unless the
/// output was read back, checked and run. A constraint that was missed is in the report, the output is
/// written all the same. Throws the classes of lib/support/error.h; nothing has been written to the output
/// then.
report::Report run(const Config& config, const RunOptions& options);

/// The passes run in memory on the model, nothing is written: rows with totals, and the cost of the model
/// before and after. The compressed record's fileBytes is the predicted size of the output.
report::Report plan(const Config& config, const RunOptions& options);

/// True when a constraint of the report was missed.
bool constraintMissed(const report::Report& report);

/// Every file that the run reads, its pipeline file excepted: the model, its external data, the data files.
std::vector<std::filesystem::path> inputFiles(const Config& config);

}  // namespace tcompress::pipeline
