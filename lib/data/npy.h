#pragma once
// NumPy's .npy format, versions 1.0 to 3.0 (numpy/lib/format.py, "NEP 1"): a magic string, a Python dict that
// says type, order and shape, then the raw array.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "lib/tensor/tensor.h"

namespace tcompress::data {

struct NpyHeader {
    DType dtype = DType::undefined;
    bool fortranOrder = false;
    Shape shape;
    std::size_t dataOffset = 0;  ///< where the array's bytes begin

    /// Bytes of the whole file: dataOffset plus the array.
    std::size_t fileBytes() const;
};

/// Longest header that is accepted: far above what any real array needs.
inline constexpr std::size_t maxNpyHeaderBytes = 64 * 1024;

/// Reads the header at the beginning of `bytes` (which may end anywhere after it). `what` names the array in
/// messages. Throws DataError: no .npy, truncated, big-endian, object or text arrays, sizes that overflow.
NpyHeader parseNpyHeader(std::span<const std::byte> bytes, const std::string& what);

/// The array of a .npy file held in memory (`bytes` stays alive as long as the tensor). C order is shared,
/// Fortran order is rearranged. The size must be exactly what the header says.
Tensor npyTensor(std::shared_ptr<const std::byte> bytes, std::size_t size, const std::string& what);

/// The header numpy itself would write for this tensor (version 1.0, C order, padded to 64 bytes).
std::string npyHeader(const Tensor& tensor);

}  // namespace tcompress::data
