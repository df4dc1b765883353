// Coded products on any processor, and which kernels this one gets.

#include "kernels/native/coded_loop.h"

namespace tcompress::kernels {

namespace {

struct Baseline {
    template <int kBits>
    using Decoder = detail::ShiftDecoder<kBits>;
};

constexpr CodedKernels kKernels = detail::codedKernelsOf<Baseline>();

}  // namespace

const CodedKernels& codedKernelsBaseline() { return kKernels; }

const CodedKernels& codedKernels() {
#if defined(__x86_64__)
    static const CodedKernels& best = []() -> const CodedKernels& {
        if (__builtin_cpu_supports("x86-64-v4")) {
            if (!__builtin_cpu_supports("avx512vnni")) return codedKernelsAvx512();
            // AMD's add on four pipes and multiply on two of them; Intel's do both on the same two.
            return __builtin_cpu_is("amd") ? codedKernelsAvx512VnniCrossed() : codedKernelsAvx512Vnni();
        }
        if (__builtin_cpu_supports("x86-64-v3"))
            return __builtin_cpu_supports("avxvnni") ? codedKernelsAvxVnni() : codedKernelsAvx2();
        return codedKernelsBaseline();
    }();
    return best;
#else
    return codedKernelsBaseline();
#endif
}

}  // namespace tcompress::kernels
