#pragma once
// What a node has to have so that whoever reads the graph can rely on it: the operands that its operator needs,
// and no attribute that sends the shape inference of the onnx library (1.23.2) out of a tensor's bounds or round
// for ever. The library checks neither before it infers, nor how much a model's own functions stand for.

#include <onnx/onnx_pb.h>

namespace tcompress::ir {

/// Checks every node of the model, those of sub-graphs and of the model's own functions included. Throws
/// ModelError with the node and what is wrong with it.
void checkNodes(const onnx::ModelProto& model);

}  // namespace tcompress::ir
