#pragma once
// Products of 8-bit matrices by oneDNN's brgemm kernels (AMX or VNNI), one tile a call. Nothing of oneDNN
// shows here.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/tensor/dtype.h"

namespace tcompress::kernels::onednn {

/// Why this processor cannot do it: without VNNI the sums of products saturate at 16 bits.
std::optional<std::string> refuseInt8();
/// Whether oneDNN would use matrix units (AMX), which multiply several times faster than VNNI.
bool hasMatrixUnits();

/// Rows of a tile are a multiple of this: few different row counts, so few primitives to build (about 1 ms
/// each).
constexpr std::int64_t kInt8RowStep = 16;
constexpr std::int64_t kInt8TileRows = 256;

/// Some columns of B[K, N], int8, in oneDNN's layout.
class Int8Block {
  public:
    /// Row-major b[k, n].
    Int8Block(const std::int8_t* b, std::int64_t k, std::int64_t n);
    ~Int8Block();
    Int8Block(Int8Block&&) noexcept;

    std::int64_t columns() const;
    std::size_t sizeBytes() const;
    /// Back to row-major [k, n].
    std::vector<std::int8_t> plain() const;
    /// c[rows, columns()] = a[rows, k] · B. aType: int8 or uint8. rows: a multiple of kInt8RowStep, at most
    /// kInt8TileRows. a's rows are aStride apart, c is dense.
    void multiply(const void* a, DType aType, std::int64_t aStride, std::int64_t rows, std::int32_t* c) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace tcompress::kernels::onednn
