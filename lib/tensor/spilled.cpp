#include "lib/tensor/spilled.h"

#include "lib/support/mapped_file.h"

namespace tcompress {

Tensor spilled(Tensor tensor) {
    const auto file = MappedFile::spill(tensor.bytes());
    if (file == nullptr || file->bytes().empty()) return tensor;
    return Tensor::share(tensor.dtype(), tensor.shape(),
                         std::shared_ptr<const std::byte>(file, file->bytes().data()));
}

}  // namespace tcompress
