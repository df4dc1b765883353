#pragma once
// Models in ONNX's text syntax in which only small constants are spelled out.

#include <string>

#include "lib/ir/model.h"

namespace tcompress::test {

/// As ir::fromText, but a float value that is listed with its shape beside the initializers, without data,
/// and that no node computes becomes an initializer of random data, the same each time:
///
///     g (float[2,64] x) => (float[2,32] y) <float[64,32] w> { y = MatMul (x, w) }
ir::Model modelFromText(const std::string& text);

/// As ir::toText, with initializers of more than 32 values written that way.
std::string textOfModel(const ir::Model& model);

}  // namespace tcompress::test
