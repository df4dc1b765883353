#pragma once
// The last check before success is reported: the file that was written is opened again and run once on a
// short input.

#include <filesystem>
#include <string>
#include <vector>

#include "lib/ir/model.h"

namespace tcompress::pipeline {

struct VerifiedModel {
    ir::Model model;  ///< as it was read back
    /// Why it was not run: operators that this program does not run. Empty when it was.
    std::vector<std::string> notRun;
};

/// Opens `file` (called `name` in messages) and runs it on random inputs, short where lengths are free.
/// Throws ModelError when it cannot be read, does not run, gives outputs that are not finite where `original`
/// gives finite ones, or outputs of other shapes than it declares.
VerifiedModel verifyWrittenModel(const std::filesystem::path& file, const std::string& name,
                                 const ir::Model& original);

/// Why the outputs of one run on short random inputs are no good: empty when all are finite and shaped as
/// declared. Throws what the executor throws.
std::string trialRunProblem(const ir::Model& model);

}  // namespace tcompress::pipeline
