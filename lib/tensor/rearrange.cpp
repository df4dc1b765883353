// Tensors with the elements of another in other places: whole-byte types in runs of bytes, sub-byte types bit
// by bit.

#include <fmt/core.h>

#include <cstring>
#include <numeric>

#include "lib/tensor/bits.h"
#include "lib/tensor/tensor.h"

namespace tcompress {
namespace {

/// Copies runs of elements, bytewise where the type allows it.
class ElementCopier {
  public:
    ElementCopier(const Tensor& from, Tensor& to)
        : bits_(bitsPerElement(from.dtype())),
          source_(from.bytes().data()),
          target_(to.mutableBytes().data()) {
        TCOMPRESS_CHECK(bits_ > 0, fmt::format("elements of {} cannot be moved", name(from.dtype())));
    }

    void copy(std::int64_t from, std::int64_t to, std::int64_t count) const {
        if (bits_ >= 8) {
            auto size = static_cast<std::size_t>(bits_ / 8);
            std::memcpy(target_ + static_cast<std::size_t>(to) * size,
                        source_ + static_cast<std::size_t>(from) * size,
                        static_cast<std::size_t>(count) * size);
            return;
        }
        for (std::int64_t i = 0; i < count; ++i)
            writeBits(target_, bits_, to + i, readBits(source_, bits_, from + i));
    }

  private:
    int bits_;
    const std::byte* source_;
    std::byte* target_;
};

std::int64_t product(const Shape& shape, std::size_t begin, std::size_t end) {
    return std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(begin),
                           shape.begin() + static_cast<std::ptrdiff_t>(end), std::int64_t{1},
                           std::multiplies<>());
}

}  // namespace

Tensor compress(const Tensor& tensor, std::int64_t axis, const std::vector<bool>& keep) {
    const Shape& shape = tensor.shape();
    if (axis < 0) axis += tensor.rank();
    TCOMPRESS_CHECK(axis >= 0 && axis < tensor.rank(),
                    fmt::format("axis {} of a tensor of shape {}", axis, toString(shape)));
    auto a = static_cast<std::size_t>(axis);
    TCOMPRESS_CHECK(static_cast<std::int64_t>(keep.size()) == shape[a],
                    fmt::format("{} marks for an axis of {}", keep.size(), shape[a]));
    Shape kept = shape;
    kept[a] = std::count(keep.begin(), keep.end(), true);
    Tensor result(tensor.dtype(), kept);
    if (result.size() == 0) return result;

    ElementCopier copier(tensor, result);
    std::int64_t inner = product(shape, a + 1, shape.size());
    std::int64_t outer = product(shape, 0, a);
    std::int64_t target = 0;
    for (std::int64_t o = 0; o < outer; ++o) {
        for (std::int64_t i = 0; i < shape[a];) {
            if (!keep[static_cast<std::size_t>(i)]) {
                ++i;
                continue;
            }
            std::int64_t begin = i;
            while (i < shape[a] && keep[static_cast<std::size_t>(i)]) ++i;
            std::int64_t run = (i - begin) * inner;
            copier.copy((o * shape[a] + begin) * inner, target, run);
            target += run;
        }
    }
    return result;
}

Tensor transpose(const Tensor& tensor, const std::vector<std::int64_t>& perm) {
    const Shape& shape = tensor.shape();
    std::size_t rank = shape.size();
    TCOMPRESS_CHECK(perm.size() == rank,
                    fmt::format("{} axes to permute in shape {}", perm.size(), toString(shape)));
    Shape strides(rank, 1);
    for (std::size_t i = rank; i-- > 1;) strides[i - 1] = strides[i] * shape[i];

    Shape permuted(rank), steps(rank);
    std::vector<bool> seen(rank, false);
    for (std::size_t i = 0; i < rank; ++i) {
        auto from = static_cast<std::size_t>(perm[i]);
        TCOMPRESS_CHECK(from < rank && !seen[from], fmt::format("{} is not a permutation", toString(perm)));
        seen[from] = true;
        permuted[i] = shape[from];
        steps[i] = strides[from];
    }
    Tensor result(tensor.dtype(), permuted);
    if (result.size() == 0) return result;

    // The last axes that stay together move as one run.
    std::size_t moving = rank;
    std::int64_t run = 1;
    while (moving > 0 && static_cast<std::size_t>(perm[moving - 1]) == moving - 1) run *= permuted[--moving];
    ElementCopier copier(tensor, result);
    Shape index(moving, 0);
    std::int64_t source = 0;
    for (std::int64_t target = 0; target < result.size(); target += run) {
        copier.copy(source, target, run);
        for (std::size_t axis = moving; axis-- > 0;) {
            source += steps[axis];
            if (++index[axis] < permuted[axis]) break;
            source -= steps[axis] * permuted[axis];
            index[axis] = 0;
        }
    }
    return result;
}

}  // namespace tcompress
