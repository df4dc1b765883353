#pragma once
// An ONNX file as skeleton and mapped payloads.

#include <filesystem>

#include "lib/ir/build_graph.h"

namespace tcompress::ir {

/// Throws ModelError, without the file's name unless it cannot be opened.
ModelSource readFile(const std::filesystem::path& path);

}  // namespace tcompress::ir
