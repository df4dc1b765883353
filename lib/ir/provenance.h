#pragma once
// Who changed a node or an initializer: "tcompress.pass" in its metadata_props, passes in the order they ran.

#include <onnx/onnx_pb.h>

#include <string>

namespace tcompress::ir {

using Metadata = google::protobuf::RepeatedPtrField<onnx::StringStringEntryProto>;

void addProvenance(Metadata& metadata, const std::string& pass);

}  // namespace tcompress::ir
