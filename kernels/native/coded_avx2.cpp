// Coded products with AVX2.

#if defined(__x86_64__)

#include "kernels/packed_codes.h"

// Before the vectors' header, so that its inlined functions are compiled for this instruction set from the
// start.
#pragma GCC target("arch=x86-64-v3")
#include "kernels/native/coded_kernel.h"

namespace tcompress::kernels {

namespace {

template <int kBits>
using Decoder = detail::ShiftDecoder<kBits>;

template <int kBits>
[[gnu::noinline]] void multiply(const CodedPanelTask& task) {
    detail::multiplyCoded<Decoder<kBits>>(task);
}
template <int kBits>
[[gnu::noinline]] void decode(const DecodeTask& task) {
    detail::decodePanel<Decoder<kBits>>(task);
}

constexpr CodedKernels kKernels{
    {multiply<2>, multiply<4>, multiply<8>}, {decode<2>, decode<4>, decode<8>}, {}};

}  // namespace

const CodedKernels& codedKernelsAvx2() { return kKernels; }

}  // namespace tcompress::kernels

#endif
