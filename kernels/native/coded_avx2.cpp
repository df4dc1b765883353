// Coded products with AVX2.

#if defined(__x86_64__)

#include "kernels/native/coded_kernel.h"

// Before the vectors' header, so that its inlined functions are compiled for this instruction set from the
// start.
#pragma GCC target("arch=x86-64-v3")
#include "kernels/native/coded_loop.h"

namespace tcompress::kernels {

namespace {

struct Avx2 {
    template <int kBits>
    using Decoder = detail::ShiftDecoder<kBits>;
};

constexpr CodedKernels kKernels = detail::codedKernelsOf<Avx2>();

}  // namespace

const CodedKernels& codedKernelsAvx2() { return kKernels; }

}  // namespace tcompress::kernels

#endif
