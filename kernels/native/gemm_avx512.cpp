#include "kernels/native/gemm_kernel.h"

namespace tcompress::kernels {

namespace {

using Vector = float __attribute__((vector_size(64)));

template <int kRows>
[[gnu::target("arch=x86-64-v4"), gnu::noinline]] void multiply(const PanelTask& task, std::int64_t row) {
    detail::multiplyRows<Vector, kRows, 2>(task, row);
}

}  // namespace

// 12 × 2 sums, 2 vectors of B and one of A: 27 of 32 registers, and twelve multiply-adds a load of B.
void multiplyPanelAvx512(const PanelTask& task) {
    using Rows = void (*)(const PanelTask&, std::int64_t);
    static constexpr Rows kTail[] = {nullptr,     multiply<1>, multiply<2>,  multiply<3>,
                                     multiply<4>, multiply<5>, multiply<6>,  multiply<7>,
                                     multiply<8>, multiply<9>, multiply<10>, multiply<11>};
    std::int64_t row = 0;
    for (; row + 12 <= task.rows; row += 12) multiply<12>(task, row);
    if (row < task.rows) kTail[task.rows - row](task, row);
}

}  // namespace tcompress::kernels
