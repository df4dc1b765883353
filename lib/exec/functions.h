#pragma once
// Functions: operators that a model defines itself, and standard operators that ONNX defines by others. A node that calls
// one is replaced by the nodes of its body.

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tcompress::exec {

/// The model's own function that the node calls; null when there is none.
const onnx::FunctionProto* localFunction(const onnx::ModelProto& envelope, const onnx::NodeProto& node, const std::string& domain);

/// The definition that ONNX gives for the operator, for these input types (null where unknown); nothing when there is none.
std::optional<onnx::FunctionProto> standardFunction(const onnx::NodeProto& node, const std::string& domain, std::int64_t version,
                                                    const std::vector<const onnx::TypeProto*>& inputTypes);

/// The body for this call: attributes filled in, inputs and outputs renamed to the call's, other names made unique by
/// `prefix`.
std::vector<onnx::NodeProto> instantiate(const onnx::FunctionProto& function, const onnx::NodeProto& call, const std::string& prefix);

}  // namespace tcompress::exec
