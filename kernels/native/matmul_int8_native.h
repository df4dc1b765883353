#pragma once
// 8-bit products on our own kernels. Strips of 12 rows go through the panels of a tile; their sums, a few
// KiB in the first-level cache, are handed on at once.

#include <functional>

#include "kernels/native/int8_epilogue.h"

namespace tcompress::kernels {

/// A as products of 8-bit matrices read it.
struct Int8Rows {
    const void* a = nullptr;  // [m, k] of int8 or uint8
    DType type = DType::uint8;
    std::int64_t stride = 0;
    std::int64_t m = 0;
};
/// Called with every part of the sums, from several threads at once.
using Int8SumsVisitor = std::function<void(const Int8Sums&)>;

void multiplyInt8Native(const Int8Rows& rows, const PackedInt8Weights& weights, const Int8SumsVisitor& visit);

/// Sums of rows of A, which a B with zero points needs.
void sumInt8Rows(const std::uint8_t* a, DType type, std::int64_t stride, std::int64_t rows, std::int64_t k,
                 std::int32_t* sums);

}  // namespace tcompress::kernels
