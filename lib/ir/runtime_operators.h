#pragma once
// Operators that ONNX Runtime's optimizer puts into ONNX's own domain although ONNX has none of that name there. Files that
// ONNX Runtime saves hold them, and it loads them; ONNX's checker and converter refuse what they do not know.

#include <onnx/onnx_pb.h>

#include <cstdint>

namespace tcompress::ir {

/// SimplifiedLayerNormalization (RMSNorm) in every opset, and LayerNormalization before opset 17, where it means what ONNX
/// made of it then.
bool isRuntimeOperator(const onnx::NodeProto& node, std::int64_t opset);

/// Moves the graph's into the domain "com.microsoft", which ONNX lets pass, bodies of If, Loop and Scan included.
void moveRuntimeOperators(onnx::ModelProto& model);

}  // namespace tcompress::ir
