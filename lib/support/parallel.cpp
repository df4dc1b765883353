// A pool of threads that live as long as the process. The items of a job are dealt out in ranges, the first to the caller and
// one to each thread, always in the same way: what a thread wrote in one operator it mostly reads in the next, from its own
// cache. Who has finished takes items from the others' ranges. What is left of a range is one 64-bit word {job number, items
// left}; whoever wants an item takes it by lowering that word, so a thread that wakes up late can neither take an item of a
// finished job nor touch the body of the next one unawares. The caller works too, and only waits for items in progress.

#include "lib/support/parallel.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "lib/support/check.h"

namespace tcompress {

namespace {

/// How long a thread looks for the next job before it sleeps: longer than the gap between two operators of a
/// model, shorter than anybody notices.
constexpr std::chrono::microseconds kSpinTime{40};
constexpr std::uint64_t kItemsMask = 0xffffffffULL;
constexpr std::int64_t kMaxItems = 0x7fffffff;
/// With more threads than this, some have no range of their own.
constexpr std::int64_t kMaxRanges = 64;

thread_local bool insideBody = false;

int availableProcessors() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

void pauseProcessor() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

/// Waits until done() for at most kSpinTime; tells whether it was.
template <class Done>
bool spinUntil(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    do {
        for (int i = 0; i < 64; ++i) {
            if (done()) return true;
            pauseProcessor();
        }
    } while (std::chrono::steady_clock::now() < deadline);
    return false;
}

class Pool {
  public:
    static Pool& instance() {
        static Pool pool;
        return pool;
    }

    Pool() : processors_(availableProcessors()), threadCount_(processors_) {}

    ~Pool() {
        stop_ = true;
        epoch_.fetch_add(1);
        epoch_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    void setThreadCount(int count) {
        TCOMPRESS_CHECK(count >= 0, "the number of threads cannot be negative");
        threadCount_ = count == 0 ? processors_ : count;
    }
    int threadCount() const { return threadCount_; }

    void run(std::int64_t count, const std::function<void(std::int64_t)>& body) {
        const int threads = threadCount_;
        std::unique_lock owner(owner_, std::defer_lock);
        // Another thread's job is running: this one goes on by itself rather than wait.
        if (threads == 1 || count == 1 || insideBody || !owner.try_lock()) {
            for (std::int64_t i = 0; i < count; ++i) body(i);
            return;
        }
        helpers_ = static_cast<int>(std::min<std::int64_t>(threads, count)) - 1;
        spin_ = threads <= processors_;
        while (static_cast<int>(workers_.size()) < helpers_) {
            const int index = static_cast<int>(workers_.size());
            workers_.emplace_back([this, index] { work(index); });
        }
        failure_ = nullptr;
        failed_ = false;
        body_ = &body;
        count_ = count;
        unfinished_ = count;
        ++job_;
        const std::int64_t ranges = std::min<std::int64_t>(helpers_ + 1, kMaxRanges);
        ranges_ = ranges;
        for (std::int64_t range = 0; range < ranges; ++range) {
            const std::int64_t size = firstOf(range + 1, ranges, count) - firstOf(range, ranges, count);
            left_[static_cast<std::size_t>(range)].word.store(job_ << 32 | static_cast<std::uint64_t>(size),
                                                             std::memory_order_release);
        }
        epoch_.fetch_add(1);
        epoch_.notify_all();

        takeItems(0);
        if (!spin_ || !spinUntil([&] { return unfinished_.load() == 0; })) {
            for (std::int64_t left = unfinished_.load(); left != 0; left = unfinished_.load())
                unfinished_.wait(left);
        }
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

  private:
    void work(int index) {
        int seen = 0;
        for (;;) {
            if (!spin_ || !spinUntil([&] { return epoch_.load() != seen; })) epoch_.wait(seen);
            seen = epoch_.load();
            if (stop_) return;
            if (index < helpers_) takeItems(index + 1);
        }
    }

    static std::int64_t firstOf(std::int64_t range, std::int64_t ranges, std::int64_t count) { return range * count / ranges; }

    /// Of the thread's own range first, then of the others'.
    void takeItems(std::int64_t thread) {
        insideBody = true;
        const std::int64_t ranges = ranges_;
        for (std::int64_t i = 0; i < ranges; ++i) takeItemsOf((thread + i) % ranges);
        insideBody = false;
    }

    void takeItemsOf(std::int64_t range) {
        std::atomic<std::uint64_t>& word = left_[static_cast<std::size_t>(range)].word;
        for (;;) {
            std::uint64_t left = word.load(std::memory_order_acquire);
            if ((left & kItemsMask) == 0) return;
            // These belong to the job of `left` if the exchange below succeeds: the next job is only set up after
            // no items of this one are left.
            const std::function<void(std::int64_t)>* body = body_;
            const std::int64_t end = firstOf(range + 1, ranges_, count_);
            if (!word.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel)) continue;
            runItem(*body, end - static_cast<std::int64_t>(left & kItemsMask));
        }
    }

    void runItem(const std::function<void(std::int64_t)>& body, std::int64_t index) {
        if (!failed_.load(std::memory_order_relaxed)) {
            try {
                body(index);
            } catch (...) {
                const std::lock_guard lock(failureMutex_);
                if (!failure_) failure_ = std::current_exception();
                failed_ = true;
            }
        }
        if (unfinished_.fetch_sub(1) == 1) unfinished_.notify_all();
    }

    const int processors_;
    std::atomic<int> threadCount_;
    std::vector<std::thread> workers_;
    std::mutex owner_;  // of everything about the current job

    std::uint64_t job_ = 0;
    std::atomic<const std::function<void(std::int64_t)>*> body_{nullptr};
    std::atomic<std::int64_t> count_{0};
    std::atomic<std::int64_t> ranges_{1};
    std::atomic<int> helpers_{0};
    std::atomic<bool> spin_{false};
    std::atomic<bool> stop_{false};
    std::mutex failureMutex_;
    std::exception_ptr failure_;
    std::atomic<bool> failed_{false};
    // 32 bits, so that waiting on it is one futex.
    alignas(64) std::atomic<int> epoch_{0};
    struct alignas(64) Left {
        std::atomic<std::uint64_t> word{0};
    };
    std::array<Left, kMaxRanges> left_;
    alignas(64) std::atomic<std::int64_t> unfinished_{0};
};

}  // namespace

void setThreadCount(int count) { Pool::instance().setThreadCount(count); }

int threadCount() { return Pool::instance().threadCount(); }

void parallelFor(std::int64_t count, const std::function<void(std::int64_t)>& body) {
    if (count <= 0) return;
    if (count > kMaxItems) {
        parallelRanges(count, count / kMaxItems + 1, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) body(i);
        });
        return;
    }
    Pool::instance().run(count, body);
}

void parallelRanges(std::int64_t size, std::int64_t grain,
                    const std::function<void(std::int64_t begin, std::int64_t end)>& body) {
    TCOMPRESS_CHECK(grain > 0, "parallelRanges needs a positive grain");
    if (size <= 0) return;
    const std::int64_t pieces = (size + grain - 1) / grain;
    parallelFor(pieces, [&](std::int64_t piece) {
        const std::int64_t begin = piece * grain;
        body(begin, std::min(size, begin + grain));
    });
}

}  // namespace tcompress
