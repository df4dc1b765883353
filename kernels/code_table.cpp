#include "kernels/code_table.h"

#include "kernels/native/code_table_native.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

void lookUpPlain(const std::uint8_t* x, std::int64_t count, const std::uint8_t* table, std::uint8_t* y) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = table[x[i]];
}

void lookUp(std::span<const std::uint8_t> x, std::span<const std::uint8_t, 256> table, std::uint8_t* y) {
    constexpr std::int64_t kTask = 1 << 17;
#if defined(__x86_64__)
    static const auto kernel = __builtin_cpu_supports("x86-64-v4") && __builtin_cpu_supports("avx512vbmi")
                                   ? lookUpAvx512
                                   : lookUpPlain;
#else
    constexpr auto kernel = lookUpPlain;
#endif
    parallelRanges(static_cast<std::int64_t>(x.size()), kTask, [&](std::int64_t begin, std::int64_t end) {
        kernel(x.data() + begin, end - begin, table.data(), y + begin);
    });
}

}  // namespace tcompress::kernels
