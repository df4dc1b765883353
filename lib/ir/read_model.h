#pragma once
// An ONNX file as skeleton and mapped payloads.

#include <memory>

#include "lib/ir/build_graph.h"
#include "lib/support/mapped_file.h"

namespace tcompress::ir {

/// Throws ModelError, without the file's name.
ModelSource readModel(const std::shared_ptr<const MappedFile>& file);

}  // namespace tcompress::ir
