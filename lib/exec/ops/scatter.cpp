// Writing by index into a copy of the first input.

#include <algorithm>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

enum class Combine { replace, add, multiply, maximum, minimum };

Combine combineOf(const std::string& name) {
    if (name == "none") return Combine::replace;
    if (name == "add") return Combine::add;
    if (name == "mul") return Combine::multiply;
    if (name == "max") return Combine::maximum;
    if (name == "min") return Combine::minimum;
    throw ModelError(fmt::format("reduction '{}' is unknown", name));
}

template <class T>
void combine(Combine how, T& target, T value) {
    switch (how) {
        case Combine::replace: target = value; break;
        case Combine::add: target = static_cast<T>(target + value); break;
        case Combine::multiply: target = static_cast<T>(target * value); break;
        case Combine::maximum: target = std::max(target, value); break;
        case Combine::minimum: target = std::min(target, value); break;
    }
}

[[noreturn]] void refuseUpdates(const Tensor& x, const Tensor& indices, const Tensor& updates) {
    throw ModelError(fmt::format("updates {} {} at indices of shape {} do not fit {} {}", name(updates.dtype()), toString(updates.shape()),
                                 toString(indices.shape()), name(x.dtype()), toString(x.shape())));
}

/// x as output 0.
std::byte* copyOf(OpContext& context, const Tensor& x) {
    std::byte* y = context.outputBytes(0, x.dtype(), x.shape());
    if (x.sizeBytes() > 0) std::memcpy(y, x.bytes().data(), x.sizeBytes());
    return y;
}

Runner makeScatterElements(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", 0);
    const Combine how = combineOf(info.attributes.text("reduction", "none"));
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& indices = context.input(1);
        const Tensor& updates = context.input(2);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        if (updates.shape() != indices.shape() || updates.dtype() != x.dtype() || indices.rank() != x.rank()) refuseUpdates(x, indices, updates);
        for (std::size_t d = 0; d < x.shape().size(); ++d) {
            if (d != axis && indices.shape()[d] > x.shape()[d]) refuseUpdates(x, indices, updates);
        }
        const std::vector<std::int64_t> positions = integers(indices);
        const std::vector<std::int64_t> strides = stridesOf(x.shape());
        std::byte* y = copyOf(context, x);
        visitLogic(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto values = updates.data<T>();
            for (std::size_t i = 0; i < positions.size(); ++i) {
                auto rest = static_cast<std::int64_t>(i);
                std::int64_t offset = 0;
                for (std::size_t d = strides.size(); d-- > 0;) {
                    const std::int64_t position = rest % indices.shape()[d];
                    rest /= indices.shape()[d];
                    offset += (d == axis ? normalizeIndex(positions[i], x.shape()[d]) : position) * strides[d];
                }
                combine(how, reinterpret_cast<T*>(y)[offset], values[i]);
            }
        });
    };
}

Runner makeScatterND(const NodeInfo& info) {
    const Combine how = combineOf(info.attributes.text("reduction", "none"));
    return [how](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& indices = context.input(1);
        const std::vector<std::int64_t> positions = integers(indices);
        const Tensor& updates = context.input(2);
        const auto depth = static_cast<std::size_t>(indices.rank() == 0 ? -1 : indices.shape().back());
        if (depth > x.shape().size()) refuseUpdates(x, indices, updates);
        Shape expected(indices.shape().begin(), indices.shape().end() - 1);
        expected.insert(expected.end(), x.shape().begin() + static_cast<std::ptrdiff_t>(depth), x.shape().end());
        if (updates.shape() != expected || updates.dtype() != x.dtype()) refuseUpdates(x, indices, updates);
        const std::vector<std::int64_t> strides = stridesOf(x.shape());
        const std::int64_t slice = product(x.shape(), depth, x.shape().size());
        std::byte* y = copyOf(context, x);
        visitLogic(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto values = updates.data<T>();
            const std::int64_t tuples = elementCount({indices.shape().begin(), indices.shape().end() - 1});
            for (std::int64_t t = 0; t < tuples; ++t) {
                std::int64_t offset = 0;
                for (std::size_t d = 0; d < depth; ++d) {
                    const std::int64_t index = positions[static_cast<std::size_t>(t) * depth + d];
                    offset += normalizeIndex(index, x.shape()[d]) * strides[d];
                }
                for (std::int64_t i = 0; i < slice; ++i) {
                    combine(how, reinterpret_cast<T*>(y)[offset + i], values[static_cast<std::size_t>(t * slice + i)]);
                }
            }
        });
    };
}

/// A cache [batch, ..., length, ...] with the update written from each batch element's index on, around the end when circular.
Runner makeTensorScatter(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", -2);
    const bool circular = info.attributes.text("mode", "linear") == "circular";
    return [=](OpContext& context) {
        const DType type = context.input(0).dtype();
        const Tensor x = unpackSubByte(context.input(0));
        const Tensor update = unpackSubByte(context.input(1));
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        const std::vector<std::int64_t> first = context.has(2) ? integers(context.input(2)) : std::vector<std::int64_t>(static_cast<std::size_t>(x.shape()[0]), 0);
        const std::int64_t width = bitsPerElement(x.dtype()) / 8;
        const std::int64_t inner = product(x.shape(), axis + 1, x.shape().size()) * width;
        const std::int64_t perBatch = product(x.shape(), 1, axis);
        const std::int64_t rows = update.shape().at(axis);
        Shape expected = x.shape();
        if (update.rank() == x.rank()) expected[axis] = rows;
        if (axis == 0 || update.shape() != expected || update.dtype() != x.dtype() || rows > x.shape()[axis]) {
            throw ModelError(fmt::format("an update of shape {} does not fit {} along axis {}", toString(update.shape()), toString(x.shape()), axis));
        }
        std::byte* y = copyOf(context, x);
        for (std::int64_t o = 0; o < x.shape()[0] * perBatch; ++o) {
            for (std::int64_t r = 0; r < rows; ++r) {
                std::int64_t at = first.at(static_cast<std::size_t>(o / std::max<std::int64_t>(1, perBatch)));
                if (__builtin_add_overflow(at, r, &at)) throw DataError(fmt::format("an update at {}", at));
                if (circular) at %= x.shape()[axis];
                at = normalizeIndex(at, x.shape()[axis]);
                std::memcpy(y + (o * x.shape()[axis] + at) * inner, update.bytes().data() + (o * rows + r) * inner, static_cast<std::size_t>(inner));
            }
        }
        if (type != x.dtype()) context.setOutput(0, packSubByte(context.outputTensor(0), type));
    };
}

const OperatorRow kRows[] = {
    {"", "ScatterElements", 11, makeScatterElements, kLogicTypes},
    {"", "Scatter", 9, makeScatterElements, kLogicTypes},
    {"", "ScatterND", 11, makeScatterND, kLogicTypes},
    {"", "TensorScatter", 24, makeTensorScatter, kStoredTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> scatterOperators() { return kRows; }

}  // namespace tcompress::exec
