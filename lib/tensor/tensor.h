#pragma once
// A dense row-major tensor: a type, a shape, and bytes that may be shared (with other tensors, or with a
// mapped file). Copying a Tensor is cheap; writing goes through mutableData(), which copies shared bytes
// first. Sub-byte types are packed, low bits first. The weights of a model are Tensors, so mapped, shared and
// edited weights are one thing.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lib/support/check.h"
#include "lib/tensor/dtype.h"

namespace tcompress {

using Shape = std::vector<std::int64_t>;

/// Product of the dimensions; 1 for a scalar.
std::int64_t elementCount(const Shape& shape);
/// "[2, 3]".
std::string toString(const Shape& shape);

class Tensor {
  public:
    Tensor() = default;
    /// Zero-filled, owned.
    Tensor(DType dtype, Shape shape);
    /// Shares bytes that someone else owns (a mapped file, an arena). bytes must hold packedSizeBytes(dtype,
    /// count).
    static Tensor share(DType dtype, Shape shape, std::shared_ptr<const std::byte> bytes);
    /// Owned, with a copy of `values`.
    template <class T>
    static Tensor of(Shape shape, std::span<const T> values);
    template <class T>
    static Tensor of(Shape shape, std::initializer_list<T> values) {
        return of<T>(std::move(shape), std::span<const T>(values.begin(), values.size()));
    }
    template <class T>
    static Tensor scalar(T value) {
        return of<T>({}, std::span<const T>(&value, 1));
    }

    DType dtype() const { return dtype_; }
    const Shape& shape() const { return shape_; }
    std::int64_t rank() const { return static_cast<std::int64_t>(shape_.size()); }
    std::int64_t size() const { return count_; }
    std::size_t sizeBytes() const { return packedSizeBytes(dtype_, count_); }

    std::span<const std::byte> bytes() const { return {bytes_.get(), sizeBytes()}; }
    /// Writable bytes; copies them first when they are shared or not owned.
    std::span<std::byte> mutableBytes();

    /// Typed view; checks that T is the tensor's type. The payloads of a mapped file lie at any address, so
    /// the first typed view of misaligned shared bytes makes one aligned copy, which all copies of the tensor
    /// use and keep.
    template <class T>
    std::span<const T> data() const {
        TCOMPRESS_CHECK(DTypeOf<T>::value == dtype_, "typed view of another type");
        return {reinterpret_cast<const T*>(alignedBytes()), static_cast<std::size_t>(count_)};
    }
    template <class T>
    std::span<T> mutableData() {
        TCOMPRESS_CHECK(DTypeOf<T>::value == dtype_, "typed view of another type");
        return {reinterpret_cast<T*>(mutableBytes().data()), static_cast<std::size_t>(count_)};
    }

    /// The same bytes under another shape of the same element count.
    Tensor reshaped(Shape shape) const;
    /// True when both look at the very same bytes.
    bool sharesBytesWith(const Tensor& other) const { return bytes_ == other.bytes_; }
    const std::shared_ptr<const std::byte>& storage() const { return bytes_; }

    /// A hint that the bytes are not needed soon: pages of a mapped file leave the process' memory (an
    /// aligned copy stays).
    void releasePages() const;

  private:
    struct AlignedCopy;
    const std::byte* alignedBytes() const;

    DType dtype_ = DType::undefined;
    Shape shape_;
    std::int64_t count_ = 0;
    std::shared_ptr<const std::byte> bytes_;
    std::shared_ptr<AlignedCopy> alignedCopy_;  ///< only where bytes_ is misaligned for the type
    bool owned_ = false;
};

template <class T>
Tensor Tensor::of(Shape shape, std::span<const T> values) {
    Tensor tensor(DTypeOf<T>::value, std::move(shape));
    TCOMPRESS_CHECK(static_cast<std::int64_t>(values.size()) == tensor.size(),
                    "values do not fill the shape");
    std::span<T> target = tensor.mutableData<T>();
    std::copy(values.begin(), values.end(), target.begin());
    return tensor;
}

/// Values as 64-bit integers / 32-bit floats whatever the stored type (throws ModelError for string and
/// complex).
std::vector<std::int64_t> toInt64(const Tensor& tensor);
std::vector<float> toFloat32(const Tensor& tensor);
/// Element-wise conversion to another type as ONNX Cast does: to floating point rounding to nearest even (the
/// float8 and float4 types saturate), floating point to integer truncating towards zero (saturating, NaN
/// becomes 0), integer to a narrower integer keeping the low bits, anything to bool by "is not zero".
Tensor convert(const Tensor& tensor, DType dtype);
/// Keeps the positions of `axis` where keep[i] is true. Works for every type, sub-byte types included.
Tensor compress(const Tensor& tensor, std::int64_t axis, const std::vector<bool>& keep);
/// Permutes the axes: result.shape[i] = tensor.shape[perm[i]].
Tensor transpose(const Tensor& tensor, const std::vector<std::int64_t>& perm);

float toFloat(Half value);
float toFloat(BFloat16 value);
Half toHalf(float value);
BFloat16 toBFloat16(float value);

}  // namespace tcompress
