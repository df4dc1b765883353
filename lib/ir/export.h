#pragma once
// From the overlay back to protobuf.

#include <onnx/onnx_pb.h>

#include <string_view>

#include "lib/ir/model.h"
#include "lib/ir/payloads.h"

namespace tcompress::ir {

struct Export {
    onnx::ModelProto proto;  ///< without the payloads
    Payloads payloads;       ///< their bytes belong to the model
};

/// The model's skeleton and its payloads, each to go into its field (splicePayloads, or by protobuf).
Export exportModel(const Model& model);

/// A location of external data for which ONNX's checker looks for no file.
constexpr std::string_view noFile = "#";

/// Turns the tensors that miss their payload into external ones in noFile, which ONNX's checker and shape
/// inference take for complete.
void markPayloadsExternal(Export& exported);

}  // namespace tcompress::ir
