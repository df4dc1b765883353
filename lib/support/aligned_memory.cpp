#include "lib/support/aligned_memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace tcompress {

void* allocateAligned(std::size_t bytes) {
    constexpr std::size_t kCacheLine = 64;
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    const bool large = bytes >= kHugePage;
    void* memory = nullptr;
    if (::posix_memalign(&memory, large ? kHugePage : kCacheLine, bytes) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    // Whole huge pages of the piece alone, so that it takes no more memory than it asks for. Only advice:
    // where it is not followed, nothing is lost.
    if (large) ::madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return memory;
}

}  // namespace tcompress
