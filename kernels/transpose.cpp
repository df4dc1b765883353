#include "kernels/transpose.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/native/transpose_matrix.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// Bytes a task moves.
constexpr std::int64_t kTaskBytes = 256 * 1024;

struct Dimension {
    std::int64_t size = 1;
    std::int64_t xStride = 0, yStride = 0;
};

/// Drops dimensions of size 1, orders by y's stride (largest first) and merges what is one step in both.
std::vector<Dimension> simplified(std::vector<Dimension> dimensions) {
    std::erase_if(dimensions, [](const Dimension& d) { return d.size == 1; });
    std::stable_sort(dimensions.begin(), dimensions.end(), [](const Dimension& a, const Dimension& b) {
        return std::abs(a.yStride) > std::abs(b.yStride);
    });
    std::vector<Dimension> merged;
    for (const Dimension& d : dimensions) {
        if (!merged.empty() && merged.back().xStride == d.xStride * d.size &&
            merged.back().yStride == d.yStride * d.size) {
            merged.back() = {merged.back().size * d.size, d.xStride, d.yStride};
        } else {
            merged.push_back(d);
        }
    }
    return merged;
}

template <class T>
void copyRow(const T* x, std::int64_t xStride, T* y, std::int64_t yStride, std::int64_t count) {
    if (xStride == 1 && yStride == 1) {
        std::memcpy(y, x, static_cast<std::size_t>(count) * sizeof(T));
    } else if (yStride == 1 && xStride == 0) {
        std::fill_n(y, count, *x);
    } else {
        for (std::int64_t i = 0; i < count; ++i) y[i * yStride] = x[i * xStride];
    }
}

/// y[i, j] = x[i, j] with x contiguous along i and y along j, in squares that stay in cache.
template <class T>
void exchange(const T* x, T* y, const Dimension& outer, const Dimension& inner) {
    if constexpr (std::is_same_v<T, float>) {
        transposeMatrix(x, inner.xStride, inner.size, outer.size, y, outer.yStride);
        return;
    }
    constexpr std::int64_t kSquare = 16;
    for (std::int64_t i = 0; i < outer.size; i += kSquare) {
        const std::int64_t iEnd = std::min(outer.size, i + kSquare);
        for (std::int64_t j = 0; j < inner.size; j += kSquare) {
            const std::int64_t jEnd = std::min(inner.size, j + kSquare);
            for (std::int64_t ii = i; ii < iEnd; ++ii)
                for (std::int64_t jj = j; jj < jEnd; ++jj)
                    y[ii * outer.yStride + jj] = x[ii + jj * inner.xStride];
        }
    }
}

template <class T>
void copyDimensions(const T* x, T* y, std::vector<Dimension> dimensions) {
    Dimension inner;
    if (!dimensions.empty()) {
        inner = dimensions.back();
        dimensions.pop_back();
    }
    // The dimension that x runs along, when that is not the one y runs along.
    Dimension partner;
    if (inner.yStride == 1 && inner.xStride != 1) {
        const auto found = std::find_if(dimensions.begin(), dimensions.end(),
                                        [](const Dimension& d) { return d.xStride == 1 && d.size > 1; });
        if (found != dimensions.end()) {
            partner = *found;
            dimensions.erase(found);
        }
    }
    std::int64_t rows = 1;
    for (const Dimension& d : dimensions) rows *= d.size;
    const std::int64_t pieceBytes =
        std::max<std::int64_t>(1, inner.size * partner.size * static_cast<std::int64_t>(sizeof(T)));
    // A single large piece is cut along its outer dimension.
    std::int64_t slices = 1;
    Dimension* cut = partner.size > 1 ? &partner : &inner;
    if (pieceBytes > kTaskBytes) slices = std::min(cut->size, pieceBytes / kTaskBytes);
    const Dimension whole = *cut;
    const std::int64_t sliceSize = (whole.size + slices - 1) / slices;
    parallelRanges(rows * slices, std::max<std::int64_t>(1, kTaskBytes / pieceBytes),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t index = begin; index < end; ++index) {
                           const T* source = x;
                           T* target = y;
                           std::int64_t row = index / slices;
                           for (std::size_t d = dimensions.size(); d-- > 0; row /= dimensions[d].size) {
                               const std::int64_t position = row % dimensions[d].size;
                               source += position * dimensions[d].xStride;
                               target += position * dimensions[d].yStride;
                           }
                           const std::int64_t first = index % slices * sliceSize;
                           const std::int64_t size = std::min(sliceSize, whole.size - first);
                           if (size <= 0) continue;
                           source += first * whole.xStride;
                           target += first * whole.yStride;
                           if (partner.size > 1)
                               exchange(source, target, {size, partner.xStride, partner.yStride}, inner);
                           else
                               copyRow(source, inner.xStride, target, inner.yStride, size);
                       }
                   });
}

void copyElements(const void* x, int elementBytes, void* y, const std::vector<Dimension>& dimensions) {
    using Wide = std::array<std::uint64_t, 2>;
    switch (elementBytes) {
        case 1:
            return copyDimensions(static_cast<const std::uint8_t*>(x), static_cast<std::uint8_t*>(y),
                                  dimensions);
        case 2:
            return copyDimensions(static_cast<const std::uint16_t*>(x), static_cast<std::uint16_t*>(y),
                                  dimensions);
        case 4:
            return copyDimensions(static_cast<const float*>(x), static_cast<float*>(y), dimensions);
        case 8:
            return copyDimensions(static_cast<const std::uint64_t*>(x), static_cast<std::uint64_t*>(y),
                                  dimensions);
        case 16:
            return copyDimensions(static_cast<const Wide*>(x), static_cast<Wide*>(y), dimensions);
        default:
            TCOMPRESS_CHECK(false, "copy: elements must be 1, 2, 4, 8 or 16 bytes wide");
    }
}

}  // namespace

void copyStrided(const void* x, int elementBytes, std::span<const std::int64_t> shape,
                 std::span<const std::int64_t> xStrides, std::span<const std::int64_t> yStrides, void* y) {
    TCOMPRESS_CHECK(shape.size() == xStrides.size() && shape.size() == yStrides.size(),
                    "copyStrided: one stride a dimension");
    std::vector<Dimension> dimensions;
    for (std::size_t d = 0; d < shape.size(); ++d) {
        if (shape[d] == 0) return;
        dimensions.push_back({shape[d], xStrides[d], yStrides[d]});
    }
    copyElements(x, elementBytes, y, simplified(std::move(dimensions)));
}

void transpose(const void* x, int elementBytes, std::span<const std::int64_t> shape,
               std::span<const std::int64_t> permutation, void* y) {
    TCOMPRESS_CHECK(shape.size() == permutation.size(), "transpose: the permutation must name every axis");
    const std::size_t rank = shape.size();
    std::vector<std::int64_t> denseStrides(rank);
    std::vector<std::int64_t> yShape(rank);
    std::vector<std::int64_t> xStrides(rank);
    std::vector<std::int64_t> yStrides(rank);
    std::int64_t stride = 1;
    for (std::size_t d = rank; d-- > 0; stride *= shape[d]) denseStrides[d] = stride;
    for (std::size_t d = 0; d < rank; ++d) {
        const auto axis = static_cast<std::size_t>(permutation[d]);
        TCOMPRESS_CHECK(axis < rank, "transpose: the permutation names an axis that is not there");
        yShape[d] = shape[axis];
        xStrides[d] = denseStrides[axis];
    }
    stride = 1;
    for (std::size_t d = rank; d-- > 0; stride *= yShape[d]) yStrides[d] = stride;
    copyStrided(x, elementBytes, yShape, xStrides, yStrides, y);
}

}  // namespace tcompress::kernels
