// Concat and Split.

#include "lib/exec/ops/join.h"

namespace tcompress::exec {

Tensor concatenate(OpContext& context, std::span<const Tensor* const> parts, std::int64_t axisAttribute) {
    if (parts.empty()) throw ModelError("there is nothing to join");
    const Tensor& first = *parts.front();
    const auto axis = static_cast<std::size_t>(normalizeAxis(axisAttribute, first.rank()));
    Shape shape = first.shape();
    shape[axis] = 0;
    for (const Tensor* part : parts) {
        Shape expected = shape;
        if (part->rank() == first.rank()) expected[axis] = part->shape()[axis];
        if (part->shape() != expected || part->dtype() != first.dtype()) {
            throw ModelError(fmt::format("parts {} {} and {} {} cannot be joined along axis {}", name(first.dtype()),
                                         toString(first.shape()), name(part->dtype()), toString(part->shape()), axis));
        }
        shape[axis] += part->shape()[axis];
    }
    const std::int64_t outer = product(shape, 0, axis);
    const std::int64_t inner = product(shape, axis + 1, shape.size()) * (bitsPerElement(first.dtype()) / 8);
    std::byte* y = nullptr;
    Tensor result = context.temporary(first.dtype(), shape, &y);
    const std::int64_t rowBytes = shape[axis] * inner;
    std::int64_t offset = 0;
    for (const Tensor* part : parts) {
        const std::int64_t partBytes = part->shape()[axis] * inner;
        const std::byte* x = part->bytes().data();
        if (partBytes == 0) continue;
        parallelRanges(outer, grainFor(partBytes / 4), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t o = begin; o < end; ++o) {
                std::memcpy(y + o * rowBytes + offset, x + o * partBytes, static_cast<std::size_t>(partBytes));
            }
        });
        offset += partBytes;
    }
    return result;
}

Tensor stack(OpContext& context, const std::vector<Tensor>& parts, std::int64_t axisAttribute) {
    std::vector<Tensor> reshaped;
    for (const Tensor& part : parts) {
        if (part.shape() != parts.front().shape()) throw ModelError("parts of different shapes cannot be stacked");
        Shape shape = part.shape();
        shape.insert(shape.begin() + normalizeAxis(axisAttribute, part.rank() + 1), 1);
        reshaped.push_back(part.reshaped(std::move(shape)));
    }
    std::vector<const Tensor*> pointers;
    for (const Tensor& part : reshaped) pointers.push_back(&part);
    return concatenate(context, pointers, axisAttribute);
}

void requireSplit(const std::vector<std::int64_t>& sizes, std::int64_t axisSize) {
    std::int64_t left = axisSize;
    for (const std::int64_t size : sizes) left = size < 0 || size > left ? -1 : left - size;
    if (left != 0) throw ModelError(fmt::format("an axis of {} cannot be split into parts of {}", axisSize, toString(sizes)));
}

Tensor rangeOf(OpContext& context, const Tensor& x, std::size_t axis, std::int64_t begin, std::int64_t size) {
    Shape shape = x.shape();
    if (axis >= shape.size() || begin < 0 || size < 0 || begin + size > shape[axis]) {
        throw ModelError(fmt::format("positions {} to {} of axis {} are not in shape {}", begin, begin + size, axis, toString(shape)));
    }
    shape[axis] = size;
    const std::int64_t outer = product(shape, 0, axis);
    const std::int64_t inner = product(shape, axis + 1, shape.size()) * (bitsPerElement(x.dtype()) / 8);
    const std::int64_t rowBytes = x.shape()[axis] * inner;
    const std::int64_t partBytes = size * inner;
    std::byte* y = nullptr;
    Tensor result = context.temporary(x.dtype(), std::move(shape), &y);
    if (partBytes == 0) return result;
    const std::byte* from = x.bytes().data() + begin * inner;
    parallelRanges(outer, grainFor(partBytes / 4), [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t o = first; o < last; ++o) std::memcpy(y + o * partBytes, from + o * rowBytes, static_cast<std::size_t>(partBytes));
    });
    return result;
}

Tensor elementOf(OpContext& context, const Tensor& x, std::size_t axis, std::int64_t index) {
    const Tensor part = rangeOf(context, x, axis, index, 1);
    Shape shape = x.shape();
    shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
    return part.reshaped(std::move(shape));
}

namespace {

Runner makeConcat(const NodeInfo& info) {
    const std::int64_t axis = info.attributes.integer("axis", 1);
    return [axis](OpContext& context) {
        std::vector<const Tensor*> parts;
        for (std::size_t i = 0; i < context.inputCount(); ++i) parts.push_back(&context.input(i));
        context.setOutput(0, concatenate(context, parts, axis));
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
    if (sizes.size() != context.outputCount()) {
        throw ModelError(fmt::format("{} sizes for {} outputs", sizes.size(), context.outputCount()));
    }
    requireSplit(sizes, total);
    return sizes;
}

Runner makeSplit(const NodeInfo& info) {
    const std::int64_t axisAttribute = info.attributes.integer("axis", 0);
    const auto sizesAttribute = info.attributes.integers("split");
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(axisAttribute, x.rank()));
        const std::vector<std::int64_t> sizes = splitSizes(context, sizesAttribute, x.shape()[axis]);
        std::int64_t begin = 0;
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            if (context.wants(i)) context.setOutput(i, rangeOf(context, x, axis, begin, sizes[i]));
            begin += sizes[i];
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
