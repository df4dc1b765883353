#pragma once
// The one way to use several threads. Work is cut into `count` pieces by the caller, by the size of the work alone and
// never by the number of threads, so that every result is the same bytes for any thread count.

#include <cstdint>
#include <functional>

namespace tcompress {

/// Number of threads parallelFor may use, at least 1. 0 means: as many as the processors this process may run on.
void setThreadCount(int count);
int threadCount();

/// Calls body(i) once for each i in [0, count), in any order, on up to threadCount() threads, and returns when all are
/// done. The first exception thrown by a body is rethrown here. A call from inside a body runs serially.
void parallelFor(std::int64_t count, const std::function<void(std::int64_t)>& body);

/// parallelFor over [0, size) in ranges of `grain` elements (the last may be shorter): body(begin, end).
void parallelRanges(std::int64_t size, std::int64_t grain,
                    const std::function<void(std::int64_t begin, std::int64_t end)>& body);

}  // namespace tcompress
