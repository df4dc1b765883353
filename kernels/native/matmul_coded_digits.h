#pragma once
// Products with coded weights by the digits of A (native/digits.h): exact integer sums of each segment, put
// together in float32 in the order of k. A row's results are the same bytes however many rows there are, as
// long as all of them are finite.

#include "kernels/matmul_coded.h"

namespace tcompress::kernels {

/// k of a row whose digits are in memory at a time.
std::int64_t digitsAtATime(const PackedCodes& weights);
/// False, and nothing is written, where this processor lacks the instruction or A is not finite.
bool multiplyByDigits(const CodedMatmul& params);

}  // namespace tcompress::kernels
