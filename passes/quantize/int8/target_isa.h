#pragma once
// What the processor that runs a dynamically quantized model does with uint8 × int8 products.

#include <string_view>

namespace tcompress::passes {

enum class TargetIsa {
    automatic,  ///< this processor
    vnni,       ///< exact 32-bit sums of four products (AVX-512 VNNI, AVX-VNNI)
    avx2        ///< VPMADDUBSW: sums of two products saturate at 16 bits
};

bool hasVnni();
/// `automatic` resolved.
TargetIsa resolve(TargetIsa isa);
std::string_view name(TargetIsa isa);

}  // namespace tcompress::passes
