// Coded products on any processor, and which kernels this one gets.

#include "kernels/packed_codes.h"

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

const CodedKernels& codedKernelsBaseline() { return kKernels; }

const CodedKernels& codedKernels() {
#if defined(__x86_64__)
    static const CodedKernels& best = [&]() -> const CodedKernels& {
        if (__builtin_cpu_supports("x86-64-v4"))
            return __builtin_cpu_supports("avx512vnni") ? codedKernelsAvx512Vnni() : codedKernelsAvx512();
        return __builtin_cpu_supports("x86-64-v3") ? codedKernelsAvx2() : codedKernelsBaseline();
    }();
    return best;
#else
    return codedKernelsBaseline();
#endif
}

}  // namespace tcompress::kernels
