#include "lib/analysis/small_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "lib/analysis/shape_rules.h"

namespace tcompress::analysis {

Shape broadcast(const Shape& a, const Shape& b) {
    Shape out(std::max(a.size(), b.size()), 1);
    for (std::size_t i = 0; i < out.size(); ++i) {
        const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
        const std::int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
        if (x != y && x != 1 && y != 1) {
            throw UnknownShape(fmt::format("{} and {} do not broadcast", toString(a), toString(b)));
        }
        out[out.size() - 1 - i] = x == 1 ? y : x;
    }
    return out;
}

std::vector<double> toDoubles(const Tensor& tensor) {
    std::vector<double> out;
    out.reserve(static_cast<std::size_t>(tensor.size()));
    if (tensor.dtype() == DType::float64) {
        const auto data = tensor.data<double>();
        out.assign(data.begin(), data.end());
    } else if (isFloatingPoint(tensor.dtype())) {
        const std::vector<float> data = toFloat32(tensor);
        out.assign(data.begin(), data.end());
    } else {
        const std::vector<std::int64_t> data = toInt64(tensor);
        out.assign(data.begin(), data.end());
    }
    return out;
}

Tensor fromInts(DType dtype, Shape shape, const std::vector<std::int64_t>& values) {
    const Tensor wide = Tensor::of<std::int64_t>(std::move(shape), std::span<const std::int64_t>(values));
    return dtype == DType::int64 ? wide : convert(wide, dtype);
}

Tensor fromDoubles(DType dtype, Shape shape, const std::vector<double>& values) {
    const Tensor wide = Tensor::of<double>(std::move(shape), std::span<const double>(values));
    return dtype == DType::float64 ? wide : convert(wide, dtype);
}

std::int64_t sum(std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    if (__builtin_add_overflow(a, b, &result)) throw UnknownShape(fmt::format("{} + {} is too large", a, b));
    return result;
}

std::int64_t product(std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result)) throw UnknownShape(fmt::format("{} * {} is too large", a, b));
    return result;
}

std::int64_t toSize(double value) {
    if (!(std::fabs(value) < 0x1p63)) throw UnknownShape(fmt::format("{} is no size", value));
    return static_cast<std::int64_t>(value);
}

Shape strides(const Shape& shape) {
    Shape out(shape.size(), 1);
    // Beside an axis of size 0 the others may be of any size: nothing is read by such strides.
    for (std::size_t i = shape.size(); i-- > 1;) __builtin_mul_overflow(out[i], shape[i], &out[i - 1]);
    return out;
}

Tensor pick(const Tensor& source, Shape shape, const std::vector<std::int64_t>& indices) {
    const std::size_t width = static_cast<std::size_t>(bitsPerElement(source.dtype())) / 8;
    if (width == 0) throw UnknownShape("sub-byte or text values are not followed");
    Tensor out(source.dtype(), std::move(shape));
    TCOMPRESS_CHECK(out.size() == static_cast<std::int64_t>(indices.size()), "one index an element");
    std::byte* target = out.mutableBytes().data();
    for (std::int64_t index : indices) {
        TCOMPRESS_CHECK(index >= 0 && index < source.size(), "index inside the source");
        std::memcpy(target, source.bytes().data() + static_cast<std::size_t>(index) * width, width);
        target += width;
    }
    return out;
}

std::vector<std::int64_t> positions(const Shape& shape, const Shape& sourceStrides, std::int64_t offset) {
    std::vector<std::int64_t> out{offset};
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
        std::vector<std::int64_t> next;
        next.reserve(out.size() * static_cast<std::size_t>(shape[axis]));
        for (std::int64_t base : out) {
            for (std::int64_t i = 0; i < shape[axis]; ++i) next.push_back(base + i * sourceStrides[axis]);
        }
        out = std::move(next);
    }
    return out;
}

Tensor broadcastTo(const Tensor& tensor, const Shape& shape) {
    if (tensor.shape().size() > shape.size() || broadcast(tensor.shape(), shape) != shape) {
        throw UnknownShape(
            fmt::format("{} cannot be stretched to {}", toString(tensor.shape()), toString(shape)));
    }
    const Shape own = strides(tensor.shape());
    Shape stretched(shape.size(), 0);
    const std::size_t lead = shape.size() - tensor.shape().size();
    for (std::size_t i = 0; i < tensor.shape().size(); ++i) {
        if (tensor.shape()[i] != 1) stretched[lead + i] = own[i];
    }
    return pick(tensor, shape, positions(shape, stretched));
}

Tensor combine(const Tensor& a, const Tensor& b, DType result, IntOperator ints, RealOperator reals) {
    const Shape shape = broadcast(a.shape(), b.shape());
    if (elementCount(shape) > kSmallValueElements) throw UnknownShape("value too large to follow");
    const Tensor x = broadcastTo(a, shape);
    const Tensor y = broadcastTo(b, shape);
    if (isFloatingPoint(a.dtype())) {
        std::vector<double> left = toDoubles(x);
        const std::vector<double> right = toDoubles(y);
        for (std::size_t i = 0; i < left.size(); ++i) left[i] = reals(left[i], right[i]);
        return fromDoubles(result, shape, left);
    }
    std::vector<std::int64_t> left = toInt64(x);
    const std::vector<std::int64_t> right = toInt64(y);
    for (std::size_t i = 0; i < left.size(); ++i) left[i] = ints(left[i], right[i]);
    return fromInts(result, shape, left);
}

}  // namespace tcompress::analysis
