// Concat and Split.

#include <numeric>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

Runner makeConcat(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", 1);
    return [attribute](OpContext& context) {
        const Tensor& first = context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, first.rank()));
        Shape shape = first.shape();
        shape[axis] = 0;
        for (std::size_t i = 0; i < context.inputCount(); ++i) {
            const Tensor& part = context.input(i);
            Shape expected = shape;
            if (part.rank() == first.rank()) expected[axis] = part.shape()[axis];
            if (part.shape() != expected || part.dtype() != first.dtype()) {
                throw ModelError(fmt::format("parts {} {} and {} {} cannot be joined along axis {}", name(first.dtype()),
                                             toString(first.shape()), name(part.dtype()), toString(part.shape()), axis));
            }
            shape[axis] += part.shape()[axis];
        }
        const std::int64_t outer = product(shape, 0, axis);
        const std::int64_t width = bitsPerElement(first.dtype()) / 8;
        const std::int64_t inner = product(shape, axis + 1, shape.size()) * width;
        std::byte* y = context.outputBytes(0, first.dtype(), shape);
        const std::int64_t rowBytes = shape[axis] * inner;
        std::int64_t offset = 0;
        for (std::size_t i = 0; i < context.inputCount(); ++i) {
            const Tensor& part = context.input(i);
            const std::int64_t partBytes = part.shape()[axis] * inner;
            const std::byte* x = part.bytes().data();
            if (partBytes == 0) continue;
            parallelRanges(outer, grainFor(partBytes / 4), [&](std::int64_t begin, std::int64_t end) {
                for (std::int64_t o = begin; o < end; ++o) {
                    std::memcpy(y + o * rowBytes + offset, x + o * partBytes, static_cast<std::size_t>(partBytes));
                }
            });
            offset += partBytes;
        }
    };
}

/// Sizes: given (attribute before opset 13, input since), or equal parts, the last one smaller when they do not fit.
std::vector<std::int64_t> splitSizes(const OpContext& context, const std::optional<std::vector<std::int64_t>>& attribute,
                                     std::int64_t total) {
    std::vector<std::int64_t> sizes;
    if (const Tensor* given = context.optionalInput(1)) {
        sizes = integers(*given);
    } else if (attribute) {
        sizes = *attribute;
    } else {
        const auto parts = static_cast<std::int64_t>(context.outputCount());
        const std::int64_t size = (total + parts - 1) / parts;
        for (std::int64_t i = 0; i < parts; ++i) sizes.push_back(std::min(size, std::max<std::int64_t>(0, total - i * size)));
    }
    if (sizes.size() != context.outputCount() || std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) != total) {
        throw ModelError(fmt::format("an axis of {} cannot be split into {} parts of {}", total, context.outputCount(),
                                     toString(sizes)));
    }
    return sizes;
}

Runner makeSplit(const NodeInfo& info) {
    const std::int64_t axisAttribute = info.attributes.integer("axis", 0);
    const auto sizesAttribute = info.attributes.integers("split");
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(axisAttribute, x.rank()));
        const std::vector<std::int64_t> sizes = splitSizes(context, sizesAttribute, x.shape()[axis]);
        const std::int64_t outer = product(x.shape(), 0, axis);
        const std::int64_t inner = product(x.shape(), axis + 1, x.shape().size()) * bitsPerElement(x.dtype()) / 8;
        const std::int64_t rowBytes = x.shape()[axis] * inner;
        std::int64_t offset = 0;
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            Shape shape = x.shape();
            shape[axis] = sizes[i];
            const std::int64_t partBytes = sizes[i] * inner;
            if (context.wants(i)) {
                std::byte* y = context.outputBytes(i, x.dtype(), std::move(shape));
                const std::byte* from = x.bytes().data() + offset;
                if (partBytes > 0) {
                    parallelRanges(outer, grainFor(partBytes / 4), [&](std::int64_t begin, std::int64_t end) {
                        for (std::int64_t o = begin; o < end; ++o) {
                            std::memcpy(y + o * partBytes, from + o * rowBytes, static_cast<std::size_t>(partBytes));
                        }
                    });
                }
            }
            offset += partBytes;
        }
    };
}

const OperatorRow kRows[] = {
    {"", "Concat", 4, makeConcat, kLogicTypes, FloatSupport::all},
    {"", "Split", 2, makeSplit, kLogicTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> joinOperators() { return kRows; }

}  // namespace tcompress::exec
