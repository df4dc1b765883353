#include "lib/support/heap.h"

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace tcompress {

void trimHeap() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

}  // namespace tcompress
