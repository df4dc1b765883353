#pragma once
// The operator schemas of the onnx library as its shape inference may be given them with models of any origin.

#include <onnx/defs/schema.h>

namespace tcompress::ir {

/// The library's own, but for two things. Where it follows the elements of vectors (data propagation) it makes an
/// entry for each, known or not, of any vector that meets a Gather; here none longer than a shape may ever be. And for a
/// Split it makes as many entries as its attribute says there are outputs; here nothing is inferred where there are not
/// so many.
const onnx::ISchemaRegistry* boundedSchemas();

}  // namespace tcompress::ir
