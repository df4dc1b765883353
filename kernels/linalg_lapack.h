#pragma once
// The names of LAPACK and CBLAS as the scipy-openblas32 package spells them, and the one place that sets its
// threads.

#include <cblas.h>
#include <lapacke.h>

namespace tcompress::kernels {

/// OpenBLAS splits sums by its thread count; on one thread its results are always the same bytes. Call before
/// any use.
inline void useOneLapackThread() {
    static const bool done = [] {
        scipy_openblas_set_num_threads(1);
        return true;
    }();
    (void)done;
}

}  // namespace tcompress::kernels
