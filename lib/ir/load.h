#pragma once
// Reading ONNX files. A model file is hostile input: sizes, offsets, external paths and nesting depth are
// checked, and every problem is a ModelError of one line that names the file.

#include <onnx/onnx_pb.h>

#include <filesystem>
#include <string_view>

#include "lib/ir/model.h"

namespace tcompress::ir {

/// Loads a single-file model or one with external data (any number of files, offsets and lengths; only inside
/// the model's own folder: no absolute path, no "..", no symbolic link out). Constant data of 1 KiB and more
/// stay in the mapped file, both in the model file itself (its payload is located without copying) and in
/// external files. Opset 11 up to the newest of ONNX 1.23 and ir_version ≥ 3; unknown domains and operators
/// are kept. Fills Value::type() by onnx::shape_inference on the skeleton (failures of inference are logged
/// at debug level only).
Model load(const std::filesystem::path& path);

/// The same for a proto in memory (tests, version conversion). External data are resolved against `folder`.
Model fromProto(onnx::ModelProto proto, const std::filesystem::path& folder = {});

/// Parses ONNX's text syntax (onnx/defs/parser.h): golden tests. Throws ModelError.
Model fromText(std::string_view text);

/// Runs ONNX's shape inference again on the skeleton, after edits.
void inferTypes(Model& model);

/// Raises the standard opset with ONNX's version converter, only when it is lower than `version`; a model
/// that has it is returned as it is. Throws ModelError with the converter's reason. Constant data are not
/// copied (done on the skeleton).
Model raiseOpset(Model model, std::int64_t version);

}  // namespace tcompress::ir
