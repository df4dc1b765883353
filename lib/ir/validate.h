#pragma once
// Checks a model. validateStructure is cheap and runs after each pass; checkFile runs ONNX's own checker on a
// file.

#include <filesystem>

#include "lib/ir/model.h"

namespace tcompress::ir {

/// Names unique, every input produced before its use, uses lists true, constants of the declared type,
/// outputs present. Throws InternalError (only a pass of ours can break these on a loaded model).
void validateStructure(const Model& model);

/// onnx::checker on the file by path (external data included). Throws ModelError with its reason.
void checkFile(const std::filesystem::path& path);

}  // namespace tcompress::ir
