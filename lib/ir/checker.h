#pragma once
// ONNX's checker on a file, without reading its weights into memory.

#include <filesystem>

namespace tcompress::ir {

/// Runs onnx::checker on a file that may still have its temporary name and whose external data too; `target`
/// is what messages call it. Only the model file is read: that external data have the right size is the
/// writer's business.
void checkWrittenFile(const std::filesystem::path& file, const std::filesystem::path& target);

}  // namespace tcompress::ir
