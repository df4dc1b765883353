// Selection by index.

#include "kernels/gather.h"

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

Runner makeGather(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", 0);
    return [attribute](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& indices = context.input(1);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        Shape shape(x.shape().begin(), x.shape().begin() + static_cast<std::ptrdiff_t>(axis));
        shape.insert(shape.end(), indices.shape().begin(), indices.shape().end());
        shape.insert(shape.end(), x.shape().begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.shape().end());
        const int bits = bitsPerElement(x.dtype());
        const std::int64_t innerBits = product(x.shape(), axis + 1, x.shape().size()) * bits;
        if (innerBits % 8 != 0) throw KernelError(fmt::format("rows of {} bits do not fill whole bytes", innerBits));
        const Tensor positions = indices.dtype() == DType::int64 ? indices : convert(indices, DType::int64);
        kernels::Gather params;
        params.x = x.bytes().data();
        params.outer = product(x.shape(), 0, axis);
        params.axis = x.shape()[axis];
        params.innerBytes = innerBits / 8;
        params.indices = positions.data<std::int64_t>();
        params.y = context.outputBytes(0, x.dtype(), shape);
        kernels::gather(params);
    };
}

Runner makeGatherElements(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", 0);
    return [attribute](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& indices = context.input(1);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        bool fits = indices.rank() == x.rank();
        for (std::size_t d = 0; fits && d < x.shape().size(); ++d) fits = d == axis || indices.shape()[d] <= x.shape()[d];
        if (!fits) throw ModelError(fmt::format("indices of shape {} do not fit {}", toString(indices.shape()), toString(x.shape())));
        const std::vector<std::int64_t> positions = integers(indices);
        const std::vector<std::int64_t> strides = stridesOf(x.shape());
        std::byte* y = context.outputBytes(0, x.dtype(), indices.shape());
        visitWidth(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            for (std::size_t i = 0; i < positions.size(); ++i) {
                auto rest = static_cast<std::int64_t>(i);
                std::int64_t offset = 0;
                for (std::size_t d = strides.size(); d-- > 0;) {
                    const std::int64_t position = rest % indices.shape()[d];
                    rest /= indices.shape()[d];
                    offset += (d == axis ? normalizeIndex(positions[i], x.shape()[d]) : position) * strides[d];
                }
                reinterpret_cast<T*>(y)[i] = rawData<T>(x)[offset];
            }
        });
    };
}

/// Indices [batch..., rows..., depth] pick slices of x[batch..., ...].
Runner makeGatherND(const NodeInfo& info) {
    const auto batchDims = static_cast<std::size_t>(info.attributes.integer("batch_dims", 0));
    return [batchDims](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& indices = context.input(1);
        const std::vector<std::int64_t> positions = integers(indices);
        if (indices.rank() == 0) throw ModelError("indices must not be a scalar");
        const auto depth = static_cast<std::size_t>(indices.shape().back());
        const auto isBatch = [&](std::size_t d) { return indices.shape()[d] == x.shape()[d]; };
        bool fits = batchDims < indices.shape().size() && batchDims < x.shape().size() + 1 && depth <= x.shape().size() - batchDims;
        for (std::size_t d = 0; fits && d < batchDims; ++d) fits = isBatch(d);
        if (!fits) {
            throw ModelError(fmt::format("indices of depth {} do not fit shape {}", depth, toString(x.shape())));
        }
        Shape shape(indices.shape().begin(), indices.shape().end() - 1);
        shape.insert(shape.end(), x.shape().begin() + static_cast<std::ptrdiff_t>(batchDims + depth), x.shape().end());
        const std::int64_t batches = product(x.shape(), 0, batchDims);
        const std::int64_t tuples = depth == 0 ? product(indices.shape(), 0, indices.shape().size() - 1)
                                               : indices.size() / static_cast<std::int64_t>(depth);
        const std::int64_t perBatch = batches == 0 ? 0 : tuples / batches;
        const std::vector<std::int64_t> strides = stridesOf(x.shape());
        const std::int64_t batchStride = product(x.shape(), batchDims, x.shape().size());
        const std::int64_t width = bitsPerElement(x.dtype()) / 8;
        const std::int64_t sliceBytes = product(x.shape(), batchDims + depth, x.shape().size()) * width;
        std::byte* y = context.outputBytes(0, x.dtype(), shape);
        for (std::int64_t t = 0; t < tuples; ++t) {
            std::int64_t offset = t / perBatch * batchStride;
            for (std::size_t d = 0; d < depth; ++d) {
                const std::int64_t index = positions[static_cast<std::size_t>(t) * depth + d];
                offset += normalizeIndex(index, x.shape()[batchDims + d]) * strides[batchDims + d];
            }
            std::memcpy(y + t * sliceBytes, x.bytes().data() + offset * width, static_cast<std::size_t>(sliceBytes));
        }
    };
}

/// Keeps the positions of an axis (or of the flattened tensor) where the condition holds.
Runner makeCompress(const NodeInfo& info) {
    const bool flat = !info.attributes.has("axis");
    const std::int64_t attribute = info.attributes.integer("axis", 0);
    return [=](OpContext& context) {
        const Tensor x = flat ? context.input(0).reshaped({context.input(0).size()}) : context.input(0);
        const std::int64_t axis = normalizeAxis(attribute, x.rank());
        const auto condition = context.data<bool>(1);
        std::vector<bool> keep(static_cast<std::size_t>(x.shape()[static_cast<std::size_t>(axis)]), false);
        for (std::size_t i = 0; i < std::min(keep.size(), condition.size()); ++i) keep[i] = condition[i];
        context.setOutput(0, tcompress::compress(x, axis, keep));
    };
}

const OperatorRow kRows[] = {
    {"", "Gather", 1, makeGather, kStoredTypes, FloatSupport::all},
    {"", "GatherElements", 11, makeGatherElements, kLogicTypes, FloatSupport::all},
    {"", "GatherND", 11, makeGatherND, kLogicTypes, FloatSupport::all},
    {"", "Compress", 9, makeCompress, kLogicTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> gatherOperators() { return kRows; }

}  // namespace tcompress::exec
