#pragma once
// Element types that a node's attributes name.

#include <string>

#include "lib/exec/attributes.h"
#include "lib/tensor/dtype.h"

namespace tcompress::exec {

/// The element type whose number in onnx::TensorProto::DataType the attribute holds. ModelError for a number that ONNX gives no type.
DType typeAttribute(const Attributes& attributes, const std::string& name, DType fallback = DType::undefined);

}  // namespace tcompress::exec
