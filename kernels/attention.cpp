#include "kernels/attention.h"

#include <array>

#include "kernels/native/attention_native.h"
#include "kernels/reference/attention_reference.h"
#include "kernels/run_kernel.h"
#include "lib/support/check.h"

namespace tcompress::kernels {

namespace {

std::optional<std::string> takesAll(const Attention&) { return std::nullopt; }

constexpr std::array kKernels{
    KernelRow<Attention>{"native", takesAll, attentionNative},
    KernelRow<Attention>{"reference", takesAll, attentionReference},
};

}  // namespace

std::span<const KernelRow<Attention>> attentionKernels() { return kKernels; }

void attention(const Attention& params) {
    TCOMPRESS_CHECK(params.keyValueHeads > 0 && params.queryHeads % params.keyValueHeads == 0,
                    "attention: query heads must divide evenly among key/value heads");
    TCOMPRESS_CHECK(!params.mask || !params.allowed, "attention: an additive and a boolean mask at once");
    if (params.batch * params.queryHeads * params.queryLength == 0) return;
    runKernel(attentionKernels(), params);
}

}  // namespace tcompress::kernels
