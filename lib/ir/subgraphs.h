#pragma once
// What sub-graphs (bodies of If, Loop, Scan) name of the graphs around them. Names are resolved lexically: a
// name that is an input, initializer or node output of the body, or of a body around it, is not captured.

#include <onnx/onnx_pb.h>

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace tcompress::ir {

/// Names that the sub-graphs of the node take from outside the node, each once, in the order they are met.
std::vector<std::string> capturedNames(const onnx::NodeProto& node);

/// Adds every name that stands inside the sub-graphs of the node. New names must differ from them: ONNX
/// forbids a body to redefine an outer name.
void collectInnerNames(const onnx::NodeProto& node, std::unordered_set<std::string>& names);

}  // namespace tcompress::ir
