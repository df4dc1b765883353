#include "kernels/native/gemm_kernel.h"

namespace tcompress::kernels {

namespace {

using Vector = float __attribute__((vector_size(32)));

template <int kRows>
[[gnu::target("arch=x86-64-v3"), gnu::noinline]] void multiply(const PanelTask& task, std::int64_t row) {
    detail::multiplyRows<Vector, kRows, 2>(task, row);
}

}  // namespace

// 6 × 2 sums, 2 vectors of B and one of A: 15 of 16 registers.
void multiplyPanelAvx2(const PanelTask& task) {
    using Rows = void (*)(const PanelTask&, std::int64_t);
    static constexpr Rows kTail[] = {nullptr,     multiply<1>, multiply<2>,
                                     multiply<3>, multiply<4>, multiply<5>};
    std::int64_t row = 0;
    for (; row + 6 <= task.rows; row += 6) multiply<6>(task, row);
    if (row < task.rows) kTail[task.rows - row](task, row);
}

}  // namespace tcompress::kernels
