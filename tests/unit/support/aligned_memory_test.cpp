// Memory for vectors of numbers.

#include "lib/support/aligned_memory.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

using namespace tcompress;

TEST_CASE("pages are aligned, all theirs to write, and apart while they are held") {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    for (const std::size_t bytes :
         {std::size_t{1}, std::size_t{300'000}, kHugePage, 2 * kHugePage + 5, 9 * kHugePage}) {
        std::vector<void*> held;
        for (int i = 1; i <= 3; ++i) {
            held.push_back(allocatePages(bytes));
            CHECK(reinterpret_cast<std::uintptr_t>(held.back()) % (bytes < kHugePage ? 4096 : kHugePage) ==
                  0);
            std::memset(held.back(), i, bytes);
        }
        for (int i = 1; i <= 3; ++i) {
            const auto* first = static_cast<const char*>(held[static_cast<std::size_t>(i - 1)]);
            CHECK(first[0] == i);
            CHECK(first[bytes - 1] == i);
        }
        for (void* memory : held) freePages(memory, bytes);
    }
}

TEST_CASE("vectors in uninitialised memory grow and keep their elements") {
    std::vector<std::uint32_t, UninitializedAllocator<std::uint32_t>> numbers(1000);
    std::iota(numbers.begin(), numbers.end(), 0U);
    numbers.resize(300'000);  // into pages of its own
    std::iota(numbers.begin() + 1000, numbers.end(), 1000U);
    numbers.push_back(300'000);
    for (std::uint32_t i = 0; i <= 300'000; ++i) REQUIRE(numbers[i] == i);
    numbers.assign(5, 7);
    CHECK(numbers[4] == 7);
}
