#pragma once
// LAPACK and CBLAS of OpenBLAS, as the scipy-openblas32 package spells them. The library is loaded when a function of
// it is first needed: most commands need none, and its threads and buffers come with it.

#include <cblas.h>
#include <lapacke.h>

namespace tcompress::kernels {

struct Lapack {
    decltype(&scipy_cblas_dgemm) dgemm = nullptr;
    decltype(&scipy_cblas_dgemv) dgemv = nullptr;
    decltype(&scipy_cblas_dtrsm) dtrsm = nullptr;
    decltype(&scipy_LAPACKE_dpotrf) dpotrf = nullptr;
    decltype(&scipy_LAPACKE_dpotri) dpotri = nullptr;
    decltype(&scipy_LAPACKE_dsyevd) dsyevd = nullptr;
    decltype(&scipy_LAPACKE_dgelsd) dgelsd = nullptr;
    decltype(&scipy_LAPACKE_dgesdd) dgesdd = nullptr;
    decltype(&scipy_LAPACKE_dgesvd) dgesvd = nullptr;
};

/// On one thread: OpenBLAS splits sums by its thread count; so its results are always the same bytes. Throws
/// KernelError when the library cannot be loaded.
const Lapack& lapack();

}  // namespace tcompress::kernels
