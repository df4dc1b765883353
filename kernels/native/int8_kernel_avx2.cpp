// Bytes 0 and 2 of a group, and bytes 1 and 3, become pairs of 16-bit values, whose products vpmaddwd adds
// exactly.

#include "kernels/native/int8_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <type_traits>

#pragma GCC target("arch=x86-64-v3")
#include "kernels/native/int8_kernel_loop.h"

namespace tcompress::kernels {

namespace {

struct Avx2 {
    using Sums = std::int32_t __attribute__((vector_size(32)));
    struct Pairs {
        __m256i even, odd;
    };
    using A = Pairs;
    using B = Pairs;
    static A loadA(const std::uint8_t* bytes) {
        std::int32_t group;
        __builtin_memcpy(&group, bytes, sizeof group);
        const __m256i all = _mm256_set1_epi32(group);
        return {_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(all, 8)};
    }
    static B loadB(const std::int8_t* bytes) {
        const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
        return {_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8)};
    }
    static Sums add(Sums sums, A a, B b) {
        return sums + (Sums)_mm256_madd_epi16(a.even, b.even) + (Sums)_mm256_madd_epi16(a.odd, b.odd);
    }
};

}  // namespace

void multiplyInt8PanelAvx2(const Int8PanelTask& task) { detail::multiplyInt8Panel<Avx2, 3, 2>(task); }

}  // namespace tcompress::kernels

#endif
