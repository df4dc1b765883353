#include "lib/support/aligned_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

namespace tcompress {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Whole huge pages of a piece alone, so that it takes no more memory than it asks for. Only advice: where it
/// is not followed, nothing is lost.
void adviseHugePages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_HUGEPAGE
    if (bytes >= kHugePage) ::madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
}

/// The last pages that were given back, for who asks for as many: work that goes from weight to weight keeps
/// the memory of the one before instead of having pages zeroed for each.
struct Spare {
    static constexpr std::size_t kMost = std::size_t{16} << 20;
    std::mutex mutex;
    void* memory = nullptr;
    std::size_t bytes = 0;
};
Spare spare;

}  // namespace

void* allocateAligned(std::size_t bytes) {
    constexpr std::size_t kCacheLine = 64;
    const bool large = bytes >= kHugePage;
    void* memory = nullptr;
    if (::posix_memalign(&memory, large ? kHugePage : kCacheLine, bytes) != 0) throw std::bad_alloc();
    adviseHugePages(memory, bytes);
    return memory;
}

void* allocatePages(std::size_t bytes) {
    {
        const std::lock_guard lock(spare.mutex);
        if (spare.memory != nullptr && spare.bytes == bytes) return std::exchange(spare.memory, nullptr);
    }
    // With room to begin at a huge page; what lies around goes back.
    const std::size_t whole = bytes + (bytes >= kHugePage ? kHugePage : 0);
    void* mapped = ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    if (whole == bytes) return mapped;
    const auto first = reinterpret_cast<std::uintptr_t>(mapped);
    const std::uintptr_t begin = (first + kHugePage - 1) / kHugePage * kHugePage;
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t end = (begin + bytes + page - 1) / page * page,
                         last = (first + whole + page - 1) / page * page;
    if (begin > first) ::munmap(mapped, begin - first);
    if (last > end) ::munmap(reinterpret_cast<void*>(end), last - end);
    adviseHugePages(reinterpret_cast<void*>(begin), bytes);
    return reinterpret_cast<void*>(begin);
}

void freePages(void* memory, std::size_t bytes) {
    if (bytes <= Spare::kMost) {
        const std::lock_guard lock(spare.mutex);
        std::swap(memory, spare.memory);
        std::swap(bytes, spare.bytes);
    }
    if (memory != nullptr) ::munmap(memory, bytes);
}

}  // namespace tcompress
