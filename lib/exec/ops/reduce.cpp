// Reductions over axes.

#include "kernels/reduce.h"

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

using kernels::ReduceOp;

/// The kernels reduce these types.
template <class Body>
void visitReducible(DType type, Body&& body) {
    switch (type) {
        case DType::float32: return body(TypeTag<float>{});
        case DType::float64: return body(TypeTag<double>{});
        case DType::int8: return body(TypeTag<std::int8_t>{});
        case DType::uint8: return body(TypeTag<std::uint8_t>{});
        case DType::int32: return body(TypeTag<std::int32_t>{});
        case DType::uint32: return body(TypeTag<std::uint32_t>{});
        case DType::int64: return body(TypeTag<std::int64_t>{});
        case DType::uint64: return body(TypeTag<std::uint64_t>{});
        default: refuseType(type);
    }
}

/// Axes: an attribute, or an input (ReduceSum since opset 13, the others since 18). None given: all axes, or with
/// noop_with_empty_axes none.
template <ReduceOp op>
Runner makeReduce(const NodeInfo& info) {
    const auto attribute = info.attributes.integers("axes");
    const bool keep = info.attributes.integer("keepdims", 1) != 0;
    const bool emptyMeansNone = info.attributes.integer("noop_with_empty_axes", 0) != 0;
    return [=](OpContext& context) {
        const bool isBool = context.input(0).dtype() == DType::boolean;  // Max and Min since opset 20
        const Tensor x = isBool ? Tensor::share(DType::uint8, context.input(0).shape(), context.input(0).storage())
                                : context.input(0);
        std::vector<std::int64_t> axes = attribute.value_or(std::vector<std::int64_t>{});
        if (const Tensor* given = context.optionalInput(1)) axes = integers(*given);
        std::vector<std::uint8_t> reduced(x.shape().size(), axes.empty() && !emptyMeansNone);
        for (std::int64_t axis : axes) reduced[static_cast<std::size_t>(normalizeAxis(axis, x.rank()))] = 1;
        Shape shape;
        for (std::size_t i = 0; i < reduced.size(); ++i) {
            if (!reduced[i]) {
                shape.push_back(x.shape()[i]);
            } else if (keep) {
                shape.push_back(1);
            }
        }
        const DType resultType = isBool ? DType::boolean : x.dtype();
        visitReducible(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            auto* y = reinterpret_cast<T*>(context.outputBytes(0, resultType, shape));
            kernels::reduce<T>(op, x.data<T>().data(), x.shape(), reduced, y);
        });
    };
}

template <kernels::ArgOp op>
Runner makeArgReduce(const NodeInfo& info) {
    const std::int64_t attribute = info.attributes.integer("axis", 0);
    const bool keep = info.attributes.integer("keepdims", 1) != 0;
    const kernels::Tie tie =
        info.attributes.integer("select_last_index", 0) ? kernels::Tie::last : kernels::Tie::first;
    return [=](OpContext& context) {
        const bool isShort = context.input(0).dtype() == DType::int16 || context.input(0).dtype() == DType::uint16;
        const Tensor x = isShort ? convert(context.input(0), DType::int32) : context.input(0);
        const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
        Shape shape = x.shape();
        if (keep) {
            shape[axis] = 1;
        } else {
            shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(axis));
        }
        if (x.shape()[axis] == 0) throw ModelError("an axis without elements has no largest or smallest one");
        visitReducible(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            kernels::argReduce<T>(op, tie, x.data<T>().data(), product(x.shape(), 0, axis), x.shape()[axis],
                                  product(x.shape(), axis + 1, x.shape().size()),
                                  context.output<std::int64_t>(0, shape).data());
        });
    };
}

constexpr TypeSet kReducible = kFloatTypes | TypeSet{DType::int8,   DType::uint8, DType::int32,  DType::uint32,
                                                     DType::int64,  DType::uint64, DType::boolean};

const OperatorRow kRows[] = {
    {"", "ReduceSum", 1, makeReduce<ReduceOp::sum>, kReducible},
    {"", "ReduceMean", 1, makeReduce<ReduceOp::mean>, kReducible},
    {"", "ReduceMax", 1, makeReduce<ReduceOp::max>, kReducible},
    {"", "ReduceMin", 1, makeReduce<ReduceOp::min>, kReducible},
    {"", "ReduceProd", 1, makeReduce<ReduceOp::product>, kReducible},
    {"", "ReduceSumSquare", 1, makeReduce<ReduceOp::sumSquare>, kReducible},
    {"", "ReduceL1", 1, makeReduce<ReduceOp::l1>, kReducible},
    {"", "ReduceL2", 1, makeReduce<ReduceOp::l2>, kReducible},
    {"", "ReduceLogSum", 1, makeReduce<ReduceOp::logSum>, kReducible},
    {"", "ReduceLogSumExp", 1, makeReduce<ReduceOp::logSumExp>, kReducible},
    {"", "ArgMax", 1, makeArgReduce<kernels::ArgOp::max>, kNumericTypes},
    {"", "ArgMin", 1, makeArgReduce<kernels::ArgOp::min>, kNumericTypes},
};

}  // namespace

std::span<const OperatorRow> reduceOperators() { return kRows; }

}  // namespace tcompress::exec
