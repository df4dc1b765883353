#pragma once
// Products of float32 rows with a constant matrix that is stored in 2, 4 or 8 bits (weight-only quantization,
// "W4A16"): C[M,N] = residual + activation(alpha · A[M,K] · W[K,N] + bias); native/digits.h derives what it may
// be off by. Few rows are bound by the memory that W takes, so its codes are decoded in registers inside the
// product; many rows share a part of W that is decoded into the cache (Frantar et al., "MARLIN", 2024, has the
// same two regimes on GPUs).

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/matmul.h"
#include "kernels/table.h"

namespace tcompress::kernels {

/// How the codes of a matrix are stored; the product takes those of two's complement as raised by half their
/// range.
enum class StoredCodes { plain, twosComplement };

/// W[k, n] = (code(k, n) − zero(k, n)) · scale(k, n), codes unsigned; scales and zero points are shared by
/// `block` neighbouring k.
struct CodedMatrix {
    std::int64_t k = 0, n = 0;
    int bits = 4;            // 2, 4 or 8
    std::int64_t block = 0;  // at least k: one a column
    /// Code (k, n) is number k · rowStride + n · columnStride; one of the strides is 1. In `storedBits` each,
    /// which is 8 or `bits`, low bits of a byte first.
    /// Bytes of a mapped file (lib/support/mapped_file.h) are read from the file, a part a task.
    const std::byte* codes = nullptr;
    int storedBits = 8;
    StoredCodes stored = StoredCodes::plain;
    std::int64_t rowStride = 0, columnStride = 1;
    /// That of (block, n) is number block · scaleBlockStride + n · scaleColumnStride; zero points likewise,
    /// of unsigned codes, or one for all.
    std::span<const float> scales, zeroPoints;
    std::int64_t scaleBlockStride = 0, scaleColumnStride = 1;
};

/// Immutable; may be used by several threads at once.
class PackedCodes;
using PackedCodesPtr = std::shared_ptr<const PackedCodes>;

/// Why a matrix cannot be packed: blocks must hold whole 32-bit words of codes.
std::optional<std::string> refuseCodes(int bits, std::int64_t block, std::int64_t k);
PackedCodesPtr packCodes(const CodedMatrix& matrix);
std::int64_t rows(const PackedCodes& weights);     // K
std::int64_t columns(const PackedCodes& weights);  // N
std::size_t sizeBytes(const PackedCodes& weights);

struct CodedMatmul {
    const float* a = nullptr;  // [M, K], contiguous rows
    std::int64_t aStride = 0;
    std::int64_t m = 0;
    const PackedCodes* weights = nullptr;
    float* c = nullptr;  // [M, N], contiguous rows; must not overlap A
    std::int64_t cStride = 0;
    Epilogue epilogue;
};
void matmul(const CodedMatmul& params);
std::span<const KernelRow<CodedMatmul>> codedMatmulKernels();

}  // namespace tcompress::kernels
