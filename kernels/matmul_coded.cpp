#include "kernels/matmul_coded.h"

#include <array>

#include "kernels/native/matmul_coded_native.h"
#include "kernels/reference/matmul_coded_reference.h"
#include "kernels/run_kernel.h"
#include "lib/support/check.h"

namespace tcompress::kernels {

namespace {

std::optional<std::string> takesAll(const CodedMatmul&) { return std::nullopt; }

constexpr std::array kKernels{
    KernelRow<CodedMatmul>{"native", takesAll, matmulCodedNative},
    KernelRow<CodedMatmul>{"reference", takesAll, matmulCodedReference},
};

}  // namespace

std::span<const KernelRow<CodedMatmul>> codedMatmulKernels() { return kKernels; }

void matmul(const CodedMatmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmul: no weights");
    if (params.m == 0 || columns(*params.weights) == 0) return;
    TCOMPRESS_CHECK(params.epilogue.residual != params.c, "matmul: C is its own residual");
    runKernel(codedMatmulKernels(), params);
}

}  // namespace tcompress::kernels
