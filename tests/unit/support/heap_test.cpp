// Memory that was freed goes back to the system.

#include "lib/support/heap.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <fstream>
#include <memory>
#include <utility>
#include <vector>

namespace {

std::int64_t residentBytes() {
    std::ifstream statm("/proc/self/statm");
    std::int64_t size = 0, resident = 0;
    statm >> size >> resident;
    REQUIRE(statm);
    return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

// Sanitizers have a heap of their own.
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("what lies free below a piece in use goes back to the system") {
    constexpr std::size_t kPieces = 1024, kBytes = 64 << 10;
    std::vector<std::unique_ptr<char[]>> pieces;
    for (std::size_t i = 0; i < kPieces; ++i) pieces.push_back(std::make_unique<char[]>(kBytes));
    const std::unique_ptr<char[]> last = std::move(pieces.back());
    pieces.clear();
    const std::int64_t before = residentBytes();
    tcompress::trimHeap();
    CHECK(residentBytes() < before - static_cast<std::int64_t>(kPieces * kBytes / 2));
    CHECK(last[kBytes - 1] == 0);
}
#endif
