// 6 × 2 sums, two vectors of B and one of A: 15 of 16 registers.

#include "kernels/native/int8_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <type_traits>

#pragma GCC target("arch=x86-64-v3,avxvnni")
#include "kernels/native/int8_kernel_loop.h"

namespace tcompress::kernels {

namespace {

struct AvxVnni {
    using Sums = std::int32_t __attribute__((vector_size(32)));
    using A = __m256i;
    using B = __m256i;
    static A loadA(const std::uint8_t* bytes) {
        std::int32_t group;
        __builtin_memcpy(&group, bytes, sizeof group);
        return _mm256_set1_epi32(group);
    }
    static B loadB(const std::int8_t* bytes) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
    }
    static Sums add(Sums sums, A a, B b) { return (Sums)_mm256_dpbusd_avx_epi32((__m256i)sums, a, b); }
};

}  // namespace

void multiplyInt8PanelAvxVnni(const Int8PanelTask& task) { detail::multiplyInt8Panel<AvxVnni, 6, 2>(task); }

}  // namespace tcompress::kernels

#endif
