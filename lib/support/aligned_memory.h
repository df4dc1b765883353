#pragma once
// Memory for vectors of numbers.

#include <cstddef>

namespace tcompress {

/// At least `bytes` of uninitialised memory on a cache line's boundary, for std::free. Large pieces lie on
/// huge pages where the system has them: that saves most of the page faults of their first use and most of
/// the misses of address translation later. Throws std::bad_alloc.
void* allocateAligned(std::size_t bytes);

}  // namespace tcompress
