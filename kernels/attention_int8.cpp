#include "kernels/attention_int8.h"

#include <array>

#include "kernels/native/attention_int8_native.h"
#include "kernels/reference/attention_int8_reference.h"
#include "kernels/run_kernel.h"
#include "lib/support/check.h"

namespace tcompress::kernels {

namespace {

std::optional<std::string> takesAll(const Int8Attention&) { return std::nullopt; }

constexpr std::array kKernels{
    KernelRow<Int8Attention>{"native", takesAll, attentionInt8Native},
    KernelRow<Int8Attention>{"reference", takesAll, attentionInt8Reference},
};

}  // namespace

std::span<const KernelRow<Int8Attention>> int8AttentionKernels() { return kKernels; }

void attention(const Int8Attention& params) {
    TCOMPRESS_CHECK(params.keyValueHeads > 0 && params.queryHeads % params.keyValueHeads == 0,
                    "attention: query heads must divide evenly among key/value heads");
    if (params.batch * params.queryHeads * params.queryLength == 0) return;
    runKernel(int8AttentionKernels(), params);
}

}  // namespace tcompress::kernels
