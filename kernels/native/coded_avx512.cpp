// Coded products with AVX-512.

#if defined(__x86_64__)

#include "kernels/native/coded_kernel.h"

// Before the vectors' header, so that its inlined functions are compiled for this instruction set from the
// start.
#pragma GCC target("arch=x86-64-v4")
#include "kernels/native/coded_loop.h"

namespace tcompress::kernels {

namespace {

// 2- and 4-bit codes are looked up. The table repeats for 2 bits, whose neighbours' bits the look-up also
// reads.
struct Avx512 {
    template <int kBits>
    using Decoder = std::conditional_t<kBits == 8, detail::ShiftDecoder<8>, detail::TableDecoder<kBits>>;
};

constexpr CodedKernels kKernels = detail::codedKernelsOf<Avx512>();

}  // namespace

const CodedKernels& codedKernelsAvx512() { return kKernels; }

}  // namespace tcompress::kernels

#endif
