#include "passes/quantize/int8/target_isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tcompress::passes {

bool hasVnni() {
#if defined(__x86_64__)
    // CPUID leaf 7: AVX512_VNNI is ECX bit 11 of sub-leaf 0, AVX-VNNI is EAX bit 4 of sub-leaf 1.
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 11 & 1) != 0) return true;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
#else
    return false;
#endif
}

TargetIsa resolve(TargetIsa isa) {
    if (isa != TargetIsa::automatic) return isa;
    return hasVnni() ? TargetIsa::vnni : TargetIsa::avx2;
}

std::string_view name(TargetIsa isa) {
    switch (isa) {
        case TargetIsa::automatic:
            return "auto";
        case TargetIsa::vnni:
            return "vnni";
        case TargetIsa::avx2:
            return "avx2";
    }
    return "?";
}

}  // namespace tcompress::passes
