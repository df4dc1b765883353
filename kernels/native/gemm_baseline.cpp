#include "kernels/native/gemm_kernel.h"

namespace tcompress::kernels {

namespace {

using Vector = float __attribute__((vector_size(16)));

template <int kRows>
[[gnu::noinline]] void multiply(const PanelTask& task, std::int64_t row) {
    detail::multiplyRows<Vector, kRows, 2>(task, row);
}

}  // namespace

void multiplyPanelBaseline(const PanelTask& task) {
    std::int64_t row = 0;
    for (; row + 4 <= task.rows; row += 4) multiply<4>(task, row);
    for (; row < task.rows; ++row) multiply<1>(task, row);
}

PanelKernel panelKernel() {
#if defined(__x86_64__)
    static const PanelKernel kernel = __builtin_cpu_supports("x86-64-v4")   ? multiplyPanelAvx512
                                      : __builtin_cpu_supports("x86-64-v3") ? multiplyPanelAvx2
                                                                            : multiplyPanelBaseline;
    return kernel;
#else
    return multiplyPanelBaseline;
#endif
}

}  // namespace tcompress::kernels
