// AVX2's coded products, and those by digits: 6 rows × 2 vectors of sums, two of codes and one of A: 15 of 16
// registers, with the totals in memory.

#include "kernels/native/coded_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#pragma GCC target("arch=x86-64-v3,avxvnni")
#include "kernels/native/coded_two_digits_loop.h"

namespace tcompress::kernels {

namespace {

struct AvxVnni {
    static constexpr int kMostRows = 6, kVectors = 2, kPanelsOfOneRow = 1;
    static constexpr CodePairs kPairs = CodePairs::separate;
    using Ints = std::int32_t __attribute__((vector_size(32)));
    using Words = std::uint32_t __attribute__((vector_size(32)));
    using Floats = float __attribute__((vector_size(32)));
    static Words spread(const void* digits) {
        std::int32_t four;
        __builtin_memcpy(&four, digits, sizeof four);
        return (Words)_mm256_set1_epi32(four);
    }
    static Floats multiplyAdd(Floats a, Floats b, Floats c) {
        return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
    }
    static Words dotBytes(Words sums, Words a, Words b) {
        return (Words)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)a, (__m256i)b);
    }
    static Words dotPairs(Words sums, Words a, Words b) {
        return (Words)_mm256_dpwssd_avx_epi32((__m256i)sums, (__m256i)a, (__m256i)b);
    }
};

}  // namespace

const CodedKernels& codedKernelsAvxVnni() {
    static const CodedKernels kernels = detail::withDigits<AvxVnni>(codedKernelsAvx2());
    return kernels;
}

}  // namespace tcompress::kernels

#endif
