#include "lib/exec/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

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

    std::byte* take(std::size_t size) {
        const std::lock_guard lock(mutex);
        used += size;
        peak = std::max(peak, used);
        std::vector<std::byte*>& list = free[size];
        if (!list.empty()) {
            std::byte* buffer = list.back();
            list.pop_back();
            return buffer;
        }
        auto* buffer = static_cast<std::byte*>(std::aligned_alloc(kAlignment, size));
        if (!buffer) throw std::bad_alloc();
        return buffer;
    }

    void give(std::byte* buffer, std::size_t size) noexcept {
        const std::lock_guard lock(mutex);
        used -= size;
        free[size].push_back(buffer);
    }

    void trim() {
        const std::lock_guard lock(mutex);
        for (auto& [size, list] : free) {
            for (std::byte* buffer : list) std::free(buffer);
            list.clear();
        }
    }

    std::mutex mutex;
    std::unordered_map<std::size_t, std::vector<std::byte*>> free;
    std::size_t used = 0;
    std::size_t peak = 0;
};

Allocator::Allocator() : pool_(std::make_shared<Pool>()) {}

std::shared_ptr<std::byte> Allocator::allocate(std::size_t bytes) {
    const std::size_t size = sizeClass(bytes);
    std::byte* buffer = pool_->take(size);
    return {buffer, [pool = pool_, size](std::byte* released) { pool->give(released, size); }};
}

std::size_t Allocator::peakBytes() const {
    const std::lock_guard lock(pool_->mutex);
    return pool_->peak;
}

void Allocator::trim() { pool_->trim(); }

}  // namespace tcompress::exec
