#pragma once
// 8-bit products by oneDNN: tiles of 256 rows and one column block go into a 32-bit scratch tile that stays
// in the second-level cache.

#include "kernels/native/matmul_int8_native.h"

namespace tcompress::kernels::onednn {

/// The weights must have Int8Form::onednnBlocks.
void multiplyInt8(const Int8Rows& rows, const PackedInt8Weights& weights, const Int8SumsVisitor& visit);

}  // namespace tcompress::kernels::onednn
