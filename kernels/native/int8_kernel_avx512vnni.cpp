// 12 × 2 sums, two vectors of B and one of A: 27 of 32 registers.

#include "kernels/native/int8_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <type_traits>

#pragma GCC target("arch=x86-64-v4,avx512vnni")
#include "kernels/native/int8_kernel_loop.h"

namespace tcompress::kernels {

namespace {

struct Avx512Vnni {
    using Sums = std::int32_t __attribute__((vector_size(64)));
    using A = __m512i;
    using B = __m512i;
    static A loadA(const std::uint8_t* bytes) {
        std::int32_t group;
        __builtin_memcpy(&group, bytes, sizeof group);
        return _mm512_set1_epi32(group);
    }
    static B loadB(const std::int8_t* bytes) { return _mm512_loadu_si512(bytes); }
    static Sums add(Sums sums, A a, B b) { return (Sums)_mm512_dpbusd_epi32((__m512i)sums, a, b); }
};

}  // namespace

void multiplyInt8PanelAvx512Vnni(const Int8PanelTask& task) {
    detail::multiplyInt8Panel<Avx512Vnni, 12, 2>(task);
}

}  // namespace tcompress::kernels

#endif
