// The table lies in four registers; vpermi2b looks up in two of them by the low seven bits, the top bit
// chooses.

#include "kernels/native/code_table_native.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace tcompress::kernels {

[[gnu::target("arch=x86-64-v4,avx512vbmi")]] void lookUpAvx512(const std::uint8_t* x, std::int64_t count,
                                                               const std::uint8_t* table, std::uint8_t* y) {
    const __m512i quarters[] = {_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64),
                                _mm512_loadu_si512(table + 128), _mm512_loadu_si512(table + 192)};
    for (std::int64_t i = 0; i < count; i += 64) {
        const __mmask64 mask = count - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (count - i)) - 1;
        const __m512i codes = _mm512_maskz_loadu_epi8(mask, x + i);
        const __m512i low = _mm512_permutex2var_epi8(quarters[0], codes, quarters[1]);
        const __m512i high = _mm512_permutex2var_epi8(quarters[2], codes, quarters[3]);
        _mm512_mask_storeu_epi8(y + i, mask, _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high));
    }
}

}  // namespace tcompress::kernels

#endif
