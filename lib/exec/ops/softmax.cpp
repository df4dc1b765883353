// Softmax, LogSoftmax and Hardmax.

#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

struct AxisView {
    std::int64_t outer = 1, axis = 1, inner = 1;
};

/// Since opset 13 along one axis; before, over all axes from `axis` on.
AxisView viewOf(const Tensor& x, std::int64_t attribute, std::int64_t version) {
    if (x.rank() == 0) return {};
    const auto axis = static_cast<std::size_t>(normalizeAxis(attribute, x.rank()));
    const Shape& shape = x.shape();
    if (version < 13) return {product(shape, 0, axis), product(shape, axis, shape.size()), 1};
    return {product(shape, 0, axis), shape[axis], product(shape, axis + 1, shape.size())};
}

template <kernels::SoftmaxKind kind>
Runner makeSoftmax(const NodeInfo& info) {
    const std::int64_t version = info.version;
    const std::int64_t axis = info.attributes.integer("axis", version < 13 ? 1 : -1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const AxisView view = viewOf(x, axis, version);
        kernels::Softmax params;
        params.kind = kind;
        params.x = x.data<float>().data();
        params.y = reinterpret_cast<float*>(context.outputInPlace(0, DType::float32, x.shape()));
        params.outer = view.outer;
        params.axis = view.axis;
        params.inner = view.inner;
        kernels::softmax(params);
    };
}

Runner makeHardmax(const NodeInfo& info) {
    const std::int64_t version = info.version;
    const std::int64_t axis = info.attributes.integer("axis", version < 13 ? 1 : -1);
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const AxisView view = viewOf(x, axis, version);
        if (view.axis == 0) throw ModelError("an axis without elements has no largest one");
        std::vector<std::int64_t> largest(static_cast<std::size_t>(view.outer * view.inner));
        kernels::argReduce<float>(kernels::ArgOp::max, kernels::Tie::first, x.data<float>().data(), view.outer, view.axis,
                                  view.inner, largest.data());
        const auto y = context.output<float>(0, x.shape());
        std::fill(y.begin(), y.end(), 0.0F);
        for (std::size_t i = 0; i < largest.size(); ++i) {
            const auto outer = static_cast<std::int64_t>(i) / view.inner;
            const auto inner = static_cast<std::int64_t>(i) % view.inner;
            y[static_cast<std::size_t>((outer * view.axis + largest[i]) * view.inner + inner)] = 1;
        }
    };
}

const OperatorRow kRows[] = {
    {"", "Softmax", 1, makeSoftmax<kernels::SoftmaxKind::softmax>, kFloatTypes, FloatSupport::float32},
    {"", "LogSoftmax", 1, makeSoftmax<kernels::SoftmaxKind::logSoftmax>, kFloatTypes, FloatSupport::float32},
    {"", "Hardmax", 1, makeHardmax, kFloatTypes, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> softmaxOperators() { return kRows; }

}  // namespace tcompress::exec
