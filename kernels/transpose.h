#pragma once
// Copies between layouts: permutation of axes and general strided copies. Elements are opaque bytes, 1, 2, 4,
// 8 or 16 wide; 2-d exchanges go through small blocks so that both sides stay in cache.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

/// y[i] with y.shape[d] = shape[permutation[d]], both dense.
void transpose(const void* x, int elementBytes, std::span<const std::int64_t> shape,
               std::span<const std::int64_t> permutation, void* y);

/// y[i...] = x[i...] over `shape`, each with its own strides in elements (negative strides allowed: pointers
/// are to the element of index 0).
void copyStrided(const void* x, int elementBytes, std::span<const std::int64_t> shape,
                 std::span<const std::int64_t> xStrides, std::span<const std::int64_t> yStrides, void* y);

}  // namespace tcompress::kernels
