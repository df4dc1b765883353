// Coded products with AVX-512.

#if defined(__x86_64__)

#include "kernels/packed_codes.h"

// Before the vectors' header, so that its inlined functions are compiled for this instruction set from the
// start.
#pragma GCC target("arch=x86-64-v4")
#include "kernels/native/coded_kernel.h"

namespace tcompress::kernels {

namespace {

// 2- and 4-bit codes are looked up. The table repeats for 2 bits, whose neighbours' bits the look-up also
// reads.
template <int kBits>
using Decoder = std::conditional_t<kBits == 8, detail::ShiftDecoder<8>, detail::TableDecoder<kBits>>;

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

const CodedKernels& codedKernelsAvx512() { return kKernels; }

}  // namespace tcompress::kernels

#endif
