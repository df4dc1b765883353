#include "lib/support/progress.h"

#include <atomic>

#include "lib/support/error.h"

namespace tcompress {
namespace {
std::atomic<bool> cancelRequested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");
}  // namespace

void Progress::step(std::int64_t done) {
    if (cancelRequested.load(std::memory_order_relaxed)) throw Cancelled("interrupted");
    advance(done);
}

void Progress::requestCancel() noexcept { cancelRequested.store(true, std::memory_order_relaxed); }

Progress& silentProgress() {
    static Progress silent;
    return silent;
}

}  // namespace tcompress
