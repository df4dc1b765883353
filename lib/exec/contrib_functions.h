#pragma once
// Operators of com.microsoft that are compositions of others: what ONNX Runtime's optimizer writes for
// quantized nodes and for a node with its activation. They run as the nodes of their definition, which fusion
// then sees like any others.

#include <onnx/onnx_pb.h>

#include <optional>

namespace tcompress::exec {

/// The definition of the operator that the node calls, for the inputs and attributes it has; nothing when
/// there is none.
std::optional<onnx::FunctionProto> contribFunction(const onnx::NodeProto& node);

}  // namespace tcompress::exec
