#pragma once
// What is left behind when a pass fails in a way that is no fault of its options: the model it was given, a
// pipeline of this one pass, and the command that replays it.

#include <filesystem>
#include <string>

#include "lib/ir/model.h"
#include "lib/pipeline/config.h"

namespace tcompress::pipeline {

/// Writes FOLDER/model.onnx, FOLDER/pipeline.json and FOLDER/README.txt. Never throws: a failure to write is
/// logged and the failure being reported goes first. Returns false then.
bool writeReproducer(const std::filesystem::path& folder, const ir::Model& before, const Config& config,
                     std::size_t stepIndex, const std::string& failure,
                     const std::string& commandLine) noexcept;

}  // namespace tcompress::pipeline
