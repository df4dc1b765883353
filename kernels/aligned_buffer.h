#pragma once
// Uninitialised memory on a cache line's boundary, and per-thread scratch memory that is kept between calls.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "lib/support/aligned_memory.h"

namespace tcompress::kernels {

template <class T>
class AlignedBuffer {
  public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(std::int64_t size) : size_(size) {
        if (size > 0)
            data_.reset(static_cast<T*>(allocateAligned(static_cast<std::size_t>(size) * sizeof(T))));
    }

    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    std::int64_t size() const { return size_; }

  private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    std::unique_ptr<T, Free> data_;
    std::int64_t size_ = 0;
};

/// At least `size` elements that stay valid until this thread asks for the same T and Purpose again.
template <class Purpose, class T>
T* threadScratch(std::int64_t size) {
    thread_local AlignedBuffer<T> buffer;
    if (buffer.size() < size) buffer = AlignedBuffer<T>(size);
    return buffer.data();
}

}  // namespace tcompress::kernels
