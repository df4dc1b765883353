#pragma once
// Tensors that wait on disk for their turn: results of a model larger than the memory they may take.

#include "lib/tensor/tensor.h"

namespace tcompress {

/// The tensor with its bytes in a temporary file (MappedFile::spill), whose pages leave the process' memory when
/// they are released; as it is where no such file can be written.
Tensor spilled(Tensor tensor);

}  // namespace tcompress
