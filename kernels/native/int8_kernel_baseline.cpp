// Any processor: each of the four bytes is widened to 32 bits. Here too: which kernel this processor gets.

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "kernels/native/int8_kernel.h"
#include "kernels/native/int8_kernel_loop.h"

namespace tcompress::kernels {

namespace {

struct Baseline {
    using Sums = std::int32_t __attribute__((vector_size(16)));
    struct A {
        std::int32_t bytes[4];
    };
    using B = Sums;
    static A loadA(const std::uint8_t* bytes) { return {{bytes[0], bytes[1], bytes[2], bytes[3]}}; }
    static B loadB(const std::int8_t* bytes) {
        B columns;
        __builtin_memcpy(&columns, bytes, sizeof columns);
        return columns;
    }
    static Sums add(Sums sums, A a, B b) {
        return sums + ((b << 24) >> 24) * a.bytes[0] + ((b << 16) >> 24) * a.bytes[1] +
               ((b << 8) >> 24) * a.bytes[2] + (b >> 24) * a.bytes[3];
    }
};

#if defined(__x86_64__)
const Int8PanelKernelRow kKernels[] = {
    {"avx512vnni", __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vnni"),
     multiplyInt8PanelAvx512Vnni},
    {"avxvnni", __builtin_cpu_supports("x86-64-v3") && __builtin_cpu_supports("avxvnni"),
     multiplyInt8PanelAvxVnni},
    {"avx512", __builtin_cpu_supports("x86-64-v4") != 0, multiplyInt8PanelAvx512},
    {"avx2", __builtin_cpu_supports("x86-64-v3") != 0, multiplyInt8PanelAvx2},
    {"baseline", true, multiplyInt8PanelBaseline},
};
#else
const Int8PanelKernelRow kKernels[] = {{"baseline", true, multiplyInt8PanelBaseline}};
#endif

}  // namespace

void multiplyInt8PanelBaseline(const Int8PanelTask& task) { detail::multiplyInt8Panel<Baseline, 4, 2>(task); }

std::span<const Int8PanelKernelRow> int8PanelKernels() { return kKernels; }

Int8PanelKernel int8PanelKernel() {
    static const Int8PanelKernel best =
        std::find_if(std::begin(kKernels), std::end(kKernels), [](const auto& row) {
            return row.supported;
        })->run;
    return best;
}

}  // namespace tcompress::kernels
