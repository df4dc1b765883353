#pragma once
// The heap of the C library, which keeps what was freed.

namespace tcompress {

/// Gives pages of freed memory back to the system where the C library can (glibc). For the end of a stretch of work: the holes
/// that its large pieces left are no room for what comes next, of other sizes. Takes milliseconds, and the next use of such a
/// page a page fault.
void trimHeap();

}  // namespace tcompress
