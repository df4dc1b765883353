#pragma once
// Reductions over any set of axes. Sums of float32 over contiguous memory run in 16 lanes that are added in a
// fixed order; nothing depends on the number of threads. Instantiated for float, double, (u)int8, int32,
// uint32, int64, uint64.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

enum class ReduceOp { sum, mean, max, min, product, sumSquare, l1, l2, logSum, logSumExp };

/// y (dense, the kept dimensions in order) from dense x of `shape`; reduced[d] tells which dimensions go. An
/// empty reduction gives the operator's neutral element (max: lowest, min: largest; −inf / +inf for floating
/// point).
template <class T>
void reduce(ReduceOp op, const T* x, std::span<const std::int64_t> shape,
            std::span<const std::uint8_t> reduced, T* y);

enum class ArgOp { max, min };
enum class Tie { first, last };
/// Index of the extreme along the middle axis of x[outer, axis, inner].
template <class T>
void argReduce(ArgOp op, Tie tie, const T* x, std::int64_t outer, std::int64_t axis, std::int64_t inner,
               std::int64_t* y);

}  // namespace tcompress::kernels
