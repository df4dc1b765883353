// AVX-512's coded products, and those by digits: 8 rows × 2 vectors of sums, two of codes and one of A: 19
// of 32 registers, the others for totals. Crossed pairs take 4 rows × 2 vectors of sums of each digit, as many
// totals, four of codes, two of A and two of what is added to those: all 32.

#include "kernels/native/coded_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#pragma GCC target("arch=x86-64-v4,avx512vnni")
#include "kernels/native/coded_two_digits_loop.h"

namespace tcompress::kernels {

namespace {

struct Avx512Vnni {
    static constexpr int kMostRows = 8, kVectors = 2, kPanelsOfOneRow = 2;
    static constexpr CodePairs kPairs = CodePairs::separate;
    using Ints = std::int32_t __attribute__((vector_size(64)));
    using Words = std::uint32_t __attribute__((vector_size(64)));
    using Floats = float __attribute__((vector_size(64)));
    static Words spread(const void* digits) {
        std::int32_t four;
        __builtin_memcpy(&four, digits, sizeof four);
        return (Words)_mm512_set1_epi32(four);
    }
    static Floats multiplyAdd(Floats a, Floats b, Floats c) {
        return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
    }
    static Words dotBytes(Words sums, Words a, Words b) {
        return (Words)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
    }
    static Words dotPairs(Words sums, Words a, Words b) {
        return (Words)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
    }
};
struct Avx512VnniCrossed : Avx512Vnni {
    static constexpr int kMostRows = 4;
    static constexpr CodePairs kPairs = CodePairs::crossed;
    static Words addPairs(Words a, Words b) { return (Words)_mm512_add_epi16((__m512i)a, (__m512i)b); }
};

}  // namespace

const CodedKernels& codedKernelsAvx512Vnni() {
    static const CodedKernels kernels = detail::withDigits<Avx512Vnni>(codedKernelsAvx512());
    return kernels;
}
const CodedKernels& codedKernelsAvx512VnniCrossed() {
    static const CodedKernels kernels = detail::withDigits<Avx512VnniCrossed>(codedKernelsAvx512());
    return kernels;
}

}  // namespace tcompress::kernels

#endif
