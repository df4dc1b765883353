#include "lib/tensor/spilled.h"

#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"

namespace tcompress {

std::future<Tensor> spilled(Tensor tensor) {
    return std::async(threadCount() > 1 ? std::launch::async : std::launch::deferred,
                      [tensor = std::move(tensor)] {
                          const auto file = MappedFile::spill(tensor.bytes());
                          if (file == nullptr || file->bytes().empty()) return tensor;
                          return Tensor::share(tensor.dtype(), tensor.shape(),
                                               std::shared_ptr<const std::byte>(file, file->bytes().data()));
                      });
}

}  // namespace tcompress
