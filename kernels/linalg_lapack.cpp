#include "kernels/linalg_lapack.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include "lib/support/error.h"

namespace tcompress::kernels {

namespace {

class Library {
  public:
    Library() : handle_(dlopen(TCOMPRESS_OPENBLAS, RTLD_NOW | RTLD_LOCAL)) {
        if (handle_ == nullptr)
            throw KernelError(fmt::format("the linear algebra library cannot be loaded: {}; install OpenBLAS's {} where the "
                                          "program looks for libraries",
                                          dlerror(), TCOMPRESS_OPENBLAS));
    }

    template <class Function>
    void find(Function& function, const char* name) const {
        function = reinterpret_cast<Function>(dlsym(handle_, name));
        if (function == nullptr) throw KernelError(fmt::format("{} has no function {}", TCOMPRESS_OPENBLAS, name));
    }

  private:
    void* handle_;  // stays until the process ends
};

Lapack load() {
    const Library library;
    decltype(&scipy_openblas_set_num_threads) setThreads = nullptr;
    library.find(setThreads, "scipy_openblas_set_num_threads");
    setThreads(1);
    Lapack lapack;
    library.find(lapack.dgemm, "scipy_cblas_dgemm");
    library.find(lapack.dgemv, "scipy_cblas_dgemv");
    library.find(lapack.dtrsm, "scipy_cblas_dtrsm");
    library.find(lapack.dpotrf, "scipy_LAPACKE_dpotrf");
    library.find(lapack.dpotri, "scipy_LAPACKE_dpotri");
    library.find(lapack.dsyevd, "scipy_LAPACKE_dsyevd");
    library.find(lapack.dgelsd, "scipy_LAPACKE_dgelsd");
    library.find(lapack.dgesdd, "scipy_LAPACKE_dgesdd");
    library.find(lapack.dgesvd, "scipy_LAPACKE_dgesvd");
    return lapack;
}

}  // namespace

const Lapack& lapack() {
    static const Lapack functions = load();
    return functions;
}

}  // namespace tcompress::kernels
