#pragma once
// Memory of computed values. Buffers go back to a free list when the last Tensor that looks at them is gone,
// and serve for values of their size or somewhat less, so that after the first run of a shape hardly any
// memory is asked from the system.

#include <cstddef>
#include <memory>

namespace tcompress::exec {

class Allocator {
  public:
    Allocator();
    /// A buffer of at least `bytes`, aligned to 64, contents undefined. It may outlive the Allocator.
    std::shared_ptr<std::byte> allocate(std::size_t bytes);
    /// Largest number of bytes in use at once.
    std::size_t peakBytes() const;
    /// Gives the free buffers back to the system.
    void trim();

  private:
    struct Pool;
    std::shared_ptr<Pool> pool_;
};

}  // namespace tcompress::exec
