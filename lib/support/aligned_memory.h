#pragma once
// Memory for vectors of numbers.

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace tcompress {

/// At least `bytes` of uninitialised memory on a cache line's boundary, for std::free. Large pieces lie on
/// huge pages where the system has them: that saves most of the page faults of their first use and most of
/// the misses of address translation later. Throws std::bad_alloc.
void* allocateAligned(std::size_t bytes);

/// The same in pages of its own, for freePages with the same number of bytes: they go back to the system at
/// once, where a heap keeps the holes that large pieces of many sizes leave.
void* allocatePages(std::size_t bytes);
void freePages(void* memory, std::size_t bytes);

/// Of vectors whose elements have no values before they are written.
template <class T>
struct UninitializedAllocator {
    using value_type = T;
    static constexpr std::size_t kOwnPages = std::size_t{1} << 18;
    UninitializedAllocator() = default;
    template <class U>
    UninitializedAllocator(const UninitializedAllocator<U>&) {}
    T* allocate(std::size_t count) {
        const std::size_t bytes = count * sizeof(T);
        return static_cast<T*>(bytes < kOwnPages ? allocateAligned(bytes) : allocatePages(bytes));
    }
    void deallocate(T* memory, std::size_t count) {
        if (count * sizeof(T) < kOwnPages)
            std::free(memory);
        else
            freePages(memory, count * sizeof(T));
    }
    template <class U>
    void construct(U* place) {
        ::new (static_cast<void*>(place)) U;
    }
    template <class U, class... Arguments>
    void construct(U* place, Arguments&&... arguments) {
        ::new (static_cast<void*>(place)) U(std::forward<Arguments>(arguments)...);
    }
    bool operator==(const UninitializedAllocator&) const = default;
};

}  // namespace tcompress
