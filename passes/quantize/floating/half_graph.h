#pragma once
// The whole graph in float16: every float32 value becomes float16, except around operators that must have
// float32.

#include "lib/pipeline/pass.h"

namespace tcompress::passes {

/// Inputs and outputs of the model keep their types, with a Cast next to each float32 one. Throws PassError
/// when a value's type is not known or the model has sub-graphs.
pipeline::PassReport castGraphToHalf(ir::Model& model, const pipeline::PassContext& context, const char* pass);

}  // namespace tcompress::passes
