// Operators that make tensors out of shapes and scalars.

#include <algorithm>
#include <cmath>

#include "lib/exec/ops/support.h"
#include "lib/exec/ops/type_attribute.h"

namespace tcompress::exec {

namespace {

Runner makeConstant(const NodeInfo& info) {
    Tensor value;
    const Attributes& attributes = info.attributes;
    if (auto tensor = attributes.tensor("value")) {
        value = *tensor;
    } else if (attributes.has("value_float")) {
        value = Tensor::scalar(attributes.real("value_float", 0));
    } else if (attributes.has("value_int")) {
        value = Tensor::scalar(attributes.integer("value_int", 0));
    } else if (auto reals = attributes.reals("value_floats")) {
        value = Tensor::of<float>({static_cast<std::int64_t>(reals->size())}, *reals);
    } else if (auto list = attributes.integers("value_ints")) {
        value = Tensor::of<std::int64_t>({static_cast<std::int64_t>(list->size())}, *list);
    } else {
        throw KernelError("a constant of this kind is not supported");
    }
    return [value](OpContext& context) { context.setOutput(0, value); };
}

void fill(std::byte* target, const Shape& shape, const Tensor& value) {
    visitWidth(value.dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        std::fill_n(reinterpret_cast<T*>(target), elementCount(shape), rawData<T>(value)[0]);
    });
}

Runner makeConstantOfShape(const NodeInfo& info) {
    const Tensor value = info.attributes.tensor("value").value_or(Tensor::scalar(0.0F));
    if (value.size() != 1) throw ModelError(fmt::format("a fill value of shape {}", toString(value.shape())));
    return [value](OpContext& context) {
        const std::vector<std::int64_t> shape = integers(context.input(0));
        fill(context.outputBytes(0, value.dtype(), shape), shape, value);
    };
}

Runner makeRange(const NodeInfo&) {
    return [](OpContext& context) {
        visitNumeric(context.input(0).dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto scalar = [&](std::size_t i) {
                const Tensor& x = context.input(i);
                if (x.size() != 1 || x.dtype() != context.input(0).dtype()) throw ModelError("a range needs three scalars of one type");
                return x.data<T>()[0];
            };
            const T start = scalar(0);
            const T limit = scalar(1);
            const T step = scalar(2);
            if (step == T(0)) throw ModelError("the step of a range must not be 0");
            const double count = std::ceil((static_cast<double>(limit) - static_cast<double>(start)) / static_cast<double>(step));
            if (!(count < 0x1p53)) throw ModelError("a range has no end");
            const auto y = context.output<T>(0, {std::max<std::int64_t>(0, static_cast<std::int64_t>(count))});
            for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<T>(start + static_cast<T>(i) * step);
        });
    };
}

Runner makeEyeLike(const NodeInfo& info) {
    const auto type = typeAttribute(info.attributes, "dtype");
    const std::int64_t offset = info.attributes.integer("k", 0);
    return [type, offset](OpContext& context) {
        const Tensor& x = context.input(0);
        const Shape shape{x.shape().at(0), x.shape().at(1)};
        Tensor ones(DType::float32, shape);
        const auto y = ones.mutableData<float>();
        for (std::int64_t row = 0; row < shape[0]; ++row) {
            const std::int64_t column = row + offset;
            if (column >= 0 && column < shape[1]) y[static_cast<std::size_t>(row * shape[1] + column)] = 1;
        }
        context.setOutput(0, convert(ones, type == DType::undefined ? x.dtype() : type));
    };
}

Runner makeOneHot(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", -1);
    return [attribute](OpContext& context) {
        const Tensor& indices = context.input(0);
        const std::int64_t depth = integerScalar(context.input(1));
        const Tensor& values = context.input(2);
        if (values.size() != 2) throw ModelError(fmt::format("off and on values of shape {}", toString(values.shape())));
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, indices.rank() + 1));
        Shape shape = indices.shape();
        shape.insert(shape.begin() + static_cast<std::ptrdiff_t>(axis), depth);
        const std::vector<std::int64_t> positions = integers(indices);
        const std::int64_t inner = product(indices.shape(), axis, indices.shape().size());
        std::byte* y = context.outputBytes(0, values.dtype(), shape);
        visitWidth(values.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const T off = rawData<T>(values)[0];
            const T on = rawData<T>(values)[1];
            std::fill_n(reinterpret_cast<T*>(y), elementCount(shape), off);
            for (std::size_t i = 0; i < positions.size(); ++i) {
                std::int64_t index = positions[i];
                if (index < -depth || index >= depth) continue;
                if (index < 0) index += depth;
                const std::int64_t outer = static_cast<std::int64_t>(i) / inner;
                reinterpret_cast<T*>(y)[(outer * depth + index) * inner + static_cast<std::int64_t>(i) % inner] = on;
            }
        });
    };
}

Runner makeTrilu(const NodeInfo& info) {
    const bool upper = info.attributes.integer("upper", 1) != 0;
    return [upper](OpContext& context) {
        const Tensor& x = context.input(0);
        const std::int64_t k = context.has(1) ? integerScalar(context.input(1)) : 0;
        const std::int64_t columns = x.shape().at(x.shape().size() - 1);
        const std::int64_t rows = x.shape().at(x.shape().size() - 2);
        std::byte* y = context.outputBytes(0, x.dtype(), x.shape());
        visitWidth(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const T* source = rawData<T>(x);
            for (std::int64_t i = 0; i < x.size(); ++i) {
                const std::int64_t column = i % columns;
                const std::int64_t row = i / columns % rows;
                const bool keep = upper ? column - row >= k : column - row <= k;
                reinterpret_cast<T*>(y)[i] = keep ? source[i] : T(0);
            }
        });
    };
}

const OperatorRow kRows[] = {
    {"", "Constant", 1, makeConstant, kStoredTypes, FloatSupport::all},
    {"", "ConstantOfShape", 9, makeConstantOfShape, TypeSet{DType::int64}, FloatSupport::all},
    {"", "Range", 11, makeRange, kNumericTypes},
    {"", "EyeLike", 9, makeEyeLike, kLogicTypes, FloatSupport::all},
    {"", "OneHot", 9, makeOneHot, kNumericTypes},
    {"", "Trilu", 14, makeTrilu, kLogicTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> generatorOperators() { return kRows; }

}  // namespace tcompress::exec
