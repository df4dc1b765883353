#pragma once
// The report's records of files and models.

#include <filesystem>
#include <vector>

#include "lib/ir/model.h"
#include "lib/pipeline/pass.h"
#include "lib/report/report.h"

namespace tcompress::pipeline {

/// Size of a file or of everything in a folder, and the hash of a file. Hashing reads the whole file.
report::FileRecord fileRecord(const std::filesystem::path& path);

/// External data files that the model file names. Throws ModelError when the file cannot be read.
std::vector<std::filesystem::path> externalFiles(const std::filesystem::path& modelFile);

/// Bytes of the model file and its external data.
std::uint64_t filesBytes(const std::filesystem::path& modelFile);

/// What the model is made of, with its cost by role; `file` is left empty.
report::ModelRecord modelRecord(const ir::Model& model, ViewCache& views);

/// Fills `file` and `externalData` from the file, hashes included.
void addFiles(report::ModelRecord& record, const std::filesystem::path& modelFile);

/// Bytes that the model takes as a single file, to the byte; external data would only add their alignment.
std::uint64_t predictedFileBytes(const ir::Model& model);

}  // namespace tcompress::pipeline
