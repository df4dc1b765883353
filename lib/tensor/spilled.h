#pragma once
// Tensors that wait on disk for their turn: results of a model larger than the memory they may take.

#include <future>

#include "lib/tensor/tensor.h"

namespace tcompress {

/// The tensor with its bytes in a temporary file (MappedFile::spill), whose pages leave the process' memory
/// when they are released; as it is where no such file can be written. The file is written beside the
/// caller's work where there is more than one thread, else when the result is asked for.
std::future<Tensor> spilled(Tensor tensor);

}  // namespace tcompress
