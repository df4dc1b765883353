#include "lib/exec/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "lib/support/aligned_memory.h"

namespace tcompress::exec {

namespace {

constexpr std::size_t kAlignment = 64;

/// Size classes: four per power of two, so that at most a fifth of a buffer is unused.
std::size_t sizeClass(std::size_t bytes) {
    if (bytes <= kAlignment) return kAlignment;
    const std::size_t step = std::max(kAlignment, std::bit_floor(bytes) / 4);
    return (bytes + step - 1) / step * step;
}

}  // namespace

struct Allocator::Pool {
    ~Pool() { trim(); }

    struct Buffer {
        std::byte* memory;
        std::size_t size;
    };

    Buffer take(std::size_t size) {
        const std::lock_guard lock(mutex);
        const Buffer buffer = reuse(size).value_or(Buffer{nullptr, size});
        used += buffer.size;
        peak = std::max(peak, used);
        return buffer.memory ? buffer : Buffer{static_cast<std::byte*>(allocateAligned(size)), size};
    }

    /// Of the class itself or, when large, the smallest that is at most twice as large: else buffers of many
    /// classes would wait for each other's turn to be used.
    std::optional<Buffer> reuse(std::size_t size) {
        constexpr std::size_t kLarge = std::size_t{256} << 10;
        const std::size_t most = size < kLarge ? size : 2 * size;
        for (auto list = free.lower_bound(size); list != free.end() && list->first <= most; ++list) {
            if (list->second.empty()) continue;
            const Buffer buffer{list->second.back(), list->first};
            list->second.pop_back();
            return buffer;
        }
        return std::nullopt;
    }

    void give(const Buffer& buffer) noexcept {
        const std::lock_guard lock(mutex);
        used -= buffer.size;
        free[buffer.size].push_back(buffer.memory);
    }

    void trim() {
        const std::lock_guard lock(mutex);
        for (auto& [size, list] : free) {
            for (std::byte* buffer : list) std::free(buffer);
            list.clear();
        }
    }

    std::mutex mutex;
    std::map<std::size_t, std::vector<std::byte*>> free;  // by size
    std::size_t used = 0;
    std::size_t peak = 0;
};

Allocator::Allocator() : pool_(std::make_shared<Pool>()) {}

std::shared_ptr<std::byte> Allocator::allocate(std::size_t bytes) {
    const Pool::Buffer buffer = pool_->take(sizeClass(bytes));
    return {buffer.memory, [pool = pool_, buffer](std::byte*) { pool->give(buffer); }};
}

std::size_t Allocator::peakBytes() const {
    const std::lock_guard lock(pool_->mutex);
    return pool_->peak;
}

void Allocator::trim() { pool_->trim(); }

}  // namespace tcompress::exec
