// Arithmetic on two (or, for Sum, Max, Min, Mean, any number of) operands with NumPy broadcasting.

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

using kernels::BinaryOp;

template <class T>
constexpr bool supports(BinaryOp op) {
    switch (op) {
        case BinaryOp::bitAnd:
        case BinaryOp::bitOr:
        case BinaryOp::bitXor:
        case BinaryOp::shiftLeft:
        case BinaryOp::shiftRight: return std::is_integral_v<T>;
        default: return true;
    }
}

void computeBinary(BinaryOp op, const BroadcastPlan& plan, const Tensor& a, const Tensor& b, std::byte* result) {
    if (a.dtype() != b.dtype()) {
        throw ModelError(fmt::format("operands of types {} and {} do not go together", name(a.dtype()), name(b.dtype())));
    }
    visitNumeric(a.dtype(), [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (!supports<T>(op)) refuseType(a.dtype());
        kernels::binary<T>(op, plan.loop, a.data<T>().data(), b.data<T>().data(), reinterpret_cast<T*>(result));
    });
}

void runBinary(BinaryOp op, OpContext& context) {
    const Tensor& a = context.input(0);
    const Tensor& b = context.input(1);
    const BroadcastPlan plan = broadcastPlan({&a, &b});
    computeBinary(op, plan, a, b, context.outputInPlace(0, a.dtype(), plan.shape));
}

template <BinaryOp op>
Runner makeBinary(const NodeInfo&) {
    return [](OpContext& context) { runBinary(op, context); };
}

Runner makeModulo(const NodeInfo& info) {
    const BinaryOp op = info.attributes.integer("fmod", 0) ? BinaryOp::fmod : BinaryOp::modulo;
    return [op](OpContext& context) { runBinary(op, context); };
}

/// The exponent may have another type than the base; the result has the base's.
Runner makePower(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& base = context.input(0);
        const Tensor& exponent = context.input(1);
        if (base.dtype() == exponent.dtype()) {
            runBinary(BinaryOp::power, context);
            return;
        }
        const DType common = isFloatingPoint(base.dtype()) ? base.dtype() : DType::float64;
        const Tensor a = convert(base, common);
        const Tensor b = convert(exponent, common);
        const BroadcastPlan plan = broadcastPlan({&a, &b});
        std::byte* elements = nullptr;
        const Tensor result = context.temporary(common, plan.shape, &elements);
        computeBinary(BinaryOp::power, plan, a, b, elements);
        context.setOutput(0, convert(result, base.dtype()));
    };
}

Runner makePRelu(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& x = context.input(0);
        const Tensor& slope = context.input(1);
        runBinary(BinaryOp::multiply, context);
        const Tensor scaled = context.outputTensor(0);
        visitNumeric(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            const auto negative = scaled.data<T>();
            if (scaled.shape() != x.shape()) {
                throw ModelError(fmt::format("slope of shape {} does not broadcast to {}", toString(slope.shape()),
                                             toString(x.shape())));
            }
            const auto result = context.output<T>(0, x.shape());
            for (std::size_t i = 0; i < source.size(); ++i) result[i] = source[i] < T(0) ? negative[i] : source[i];
        });
    };
}

/// Folds the operands from the left.
Tensor foldOperands(BinaryOp op, OpContext& context) {
    Tensor accumulated = context.input(0);
    for (std::size_t i = 1; i < context.inputCount(); ++i) {
        const Tensor& operand = context.input(i);
        const BroadcastPlan plan = broadcastPlan({&accumulated, &operand});
        std::byte* elements = nullptr;
        Tensor result = context.temporary(accumulated.dtype(), plan.shape, &elements);
        computeBinary(op, plan, accumulated, operand, elements);
        accumulated = std::move(result);
    }
    return accumulated;
}

template <BinaryOp op>
Runner makeVariadic(const NodeInfo&) {
    return [](OpContext& context) { context.setOutput(0, foldOperands(op, context)); };
}

Runner makeMean(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor sum = foldOperands(BinaryOp::add, context);
        const Tensor count = convert(Tensor::scalar(static_cast<double>(context.inputCount())), sum.dtype());
        const BroadcastPlan plan = broadcastPlan({&sum, &count});
        computeBinary(BinaryOp::divide, plan, sum, count, context.outputBytes(0, sum.dtype(), plan.shape));
    };
}

Runner makeBitShift(const NodeInfo& info) {
    const BinaryOp op =
        info.attributes.text("direction", "") == "LEFT" ? BinaryOp::shiftLeft : BinaryOp::shiftRight;
    return [op](OpContext& context) { runBinary(op, context); };
}

const OperatorRow kRows[] = {
    {"", "Add", 7, makeBinary<BinaryOp::add>, kNumericTypes},
    {"", "Sub", 7, makeBinary<BinaryOp::subtract>, kNumericTypes},
    {"", "Mul", 7, makeBinary<BinaryOp::multiply>, kNumericTypes},
    {"", "Div", 7, makeBinary<BinaryOp::divide>, kNumericTypes},
    {"", "Mod", 10, makeModulo, kNumericTypes},
    {"", "Pow", 7, makePower, kNumericTypes},
    {"", "PRelu", 7, makePRelu, kNumericTypes},
    {"", "Sum", 8, makeVariadic<BinaryOp::add>, kFloatTypes},
    {"", "Max", 8, makeVariadic<BinaryOp::maximum>, kNumericTypes},
    {"", "Min", 8, makeVariadic<BinaryOp::minimum>, kNumericTypes},
    {"", "Mean", 8, makeMean, kFloatTypes},
    {"", "BitShift", 11, makeBitShift, kIntegerTypes},
    {"", "BitwiseAnd", 18, makeBinary<BinaryOp::bitAnd>, kIntegerTypes},
    {"", "BitwiseOr", 18, makeBinary<BinaryOp::bitOr>, kIntegerTypes},
    {"", "BitwiseXor", 18, makeBinary<BinaryOp::bitXor>, kIntegerTypes},
};

}  // namespace

std::span<const OperatorRow> binaryOperators() { return kRows; }

}  // namespace tcompress::exec
