#include "lib/support/parallel.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace tcompress;

namespace {

struct ThreadCountGuard {
    ~ThreadCountGuard() { setThreadCount(0); }
};

}  // namespace

TEST_CASE("every index is visited once, for any number of threads") {
    ThreadCountGuard guard;
    for (const int threads : {1, 2, 3, 8}) {
        setThreadCount(threads);
        REQUIRE(threadCount() == threads);
        for (const std::int64_t count : {0, 1, 2, 3, 7, 64, 1000}) {
            std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
            parallelFor(count, [&](std::int64_t i) { visits[static_cast<std::size_t>(i)]++; });
            for (const auto& visit : visits) REQUIRE(visit == 1);
        }
    }
}

TEST_CASE("work is really shared between threads") {
    ThreadCountGuard guard;
    setThreadCount(3);
    // Each body waits for the others: it only ends when three threads are inside at once.
    std::atomic<int> inside{0};
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    parallelFor(3, [&](std::int64_t) {
        inside++;
        while (inside < 3 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    });
    REQUIRE(inside == 3);
}

TEST_CASE("many short jobs in a row") {
    ThreadCountGuard guard;
    setThreadCount(4);
    std::int64_t total = 0;
    for (int job = 0; job < 2000; ++job) {
        std::vector<std::int64_t> parts(5);
        parallelFor(5, [&](std::int64_t i) { parts[static_cast<std::size_t>(i)] = i + job; });
        total += std::accumulate(parts.begin(), parts.end(), std::int64_t{0});
    }
    REQUIRE(total == 2000LL * 10 + 5LL * 1999 * 2000 / 2);
}

TEST_CASE("ranges cover the size, the last one shorter") {
    ThreadCountGuard guard;
    for (const int threads : {1, 3}) {
        setThreadCount(threads);
        std::vector<int> seen(103);
        std::atomic<int> calls{0};
        std::atomic<int> wrong{0};
        parallelRanges(103, 10, [&](std::int64_t begin, std::int64_t end) {
            calls++;
            if (begin % 10 != 0 || end != std::min<std::int64_t>(begin + 10, 103)) wrong++;
            for (std::int64_t i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)]++;
        });
        REQUIRE(calls == 11);
        REQUIRE(wrong == 0);
        REQUIRE(seen == std::vector<int>(103, 1));
    }
}

TEST_CASE("a failing body's exception reaches the caller and the pool stays usable") {
    ThreadCountGuard guard;
    for (const int threads : {1, 2, 8}) {
        setThreadCount(threads);
        REQUIRE_THROWS_WITH(parallelFor(50,
                                        [](std::int64_t i) {
                                            if (i == 17) throw std::runtime_error("seventeen");
                                        }),
                            "seventeen");
        std::atomic<std::int64_t> sum{0};
        parallelFor(50, [&](std::int64_t i) { sum += i; });
        REQUIRE(sum == 49 * 25);
    }
}

TEST_CASE("a call from inside a body runs serially on the same thread") {
    ThreadCountGuard guard;
    setThreadCount(3);
    std::atomic<int> total{0};
    std::atomic<bool> moved{false};
    parallelFor(6, [&](std::int64_t) {
        const std::thread::id outer = std::this_thread::get_id();
        parallelFor(4, [&](std::int64_t) {
            if (std::this_thread::get_id() != outer) moved = true;
            total++;
        });
    });
    REQUIRE(total == 24);
    REQUIRE_FALSE(moved);
}

TEST_CASE("several threads may call at once") {
    ThreadCountGuard guard;
    setThreadCount(2);
    std::atomic<std::int64_t> sum{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
        callers.emplace_back([&] {
            for (int job = 0; job < 200; ++job) parallelFor(10, [&](std::int64_t i) { sum += i; });
        });
    }
    for (std::thread& caller : callers) caller.join();
    REQUIRE(sum == 4 * 200 * 45);
}
