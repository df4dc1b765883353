// Comparison, logic and selection.

#include <cmath>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

using kernels::CompareOp;
using kernels::LogicalOp;

template <CompareOp op>
Runner makeCompare(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& a = context.input(0);
        const Tensor& b = context.input(1);
        const BroadcastPlan plan = broadcastPlan({&a, &b});
        if (a.dtype() != b.dtype()) throw ModelError(fmt::format("a comparison of {} and {}", name(a.dtype()), name(b.dtype())));
        bool* y = context.output<bool>(0, plan.shape).data();
        // bool compares as the bytes 0 and 1.
        if (a.dtype() == DType::boolean) {
            kernels::compare<std::uint8_t>(op, plan.loop, rawData<std::uint8_t>(a), rawData<std::uint8_t>(b), y);
            return;
        }
        visitNumeric(a.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            kernels::compare<T>(op, plan.loop, a.data<T>().data(), b.data<T>().data(), y);
        });
    };
}

template <LogicalOp op>
Runner makeLogical(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& a = context.input(0);
        const Tensor& b = context.input(1);
        const BroadcastPlan plan = broadcastPlan({&a, &b});
        kernels::logical(op, plan.loop, a.data<bool>().data(), b.data<bool>().data(),
                         context.output<bool>(0, plan.shape).data());
    };
}

Runner makeNot(const NodeInfo&) {
    return [](OpContext& context) {
        const auto x = context.data<bool>(0);
        const auto y = context.output<bool>(0, context.input(0).shape());
        for (std::size_t i = 0; i < x.size(); ++i) y[i] = !x[i];
    };
}

Runner makeWhere(const NodeInfo&) {
    return [](OpContext& context) {
        const Tensor& condition = context.input(0);
        const Tensor& a = context.input(1);
        const Tensor& b = context.input(2);
        if (a.dtype() != b.dtype()) throw ModelError(fmt::format("a choice between {} and {}", name(a.dtype()), name(b.dtype())));
        const BroadcastPlan plan = broadcastPlan({&condition, &a, &b});
        std::byte* y = context.outputBytes(0, a.dtype(), plan.shape);
        kernels::where(plan.loop, condition.data<bool>().data(), typedBytes(a), typedBytes(b),
                       bitsPerElement(a.dtype()) / 8, y);
    };
}

template <class Test>
Runner floatTest(Test test) {
    return [test](OpContext& context) {
        const bool isWide = context.input(0).dtype() == DType::float64;
        const Tensor x = isWide ? context.input(0) : convert(context.input(0), DType::float32);
        visitFloat(x.dtype(), [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto source = x.data<T>();
            const auto y = context.output<bool>(0, x.shape());
            for (std::size_t i = 0; i < source.size(); ++i) y[i] = test(source[i]);
        });
    };
}

Runner makeIsNaN(const NodeInfo&) {
    return floatTest([](auto x) { return std::isnan(x); });
}

Runner makeIsInf(const NodeInfo& info) {
    const bool positive = info.attributes.integer("detect_positive", 1) != 0;
    const bool negative = info.attributes.integer("detect_negative", 1) != 0;
    return floatTest([=](auto x) { return std::isinf(x) && (x > 0 ? positive : negative); });
}

constexpr TypeSet kBool{DType::boolean};

const OperatorRow kRows[] = {
    {"", "Equal", 7, makeCompare<CompareOp::equal>, kLogicTypes},
    {"", "Less", 7, makeCompare<CompareOp::less>, kNumericTypes},
    {"", "LessOrEqual", 12, makeCompare<CompareOp::lessOrEqual>, kNumericTypes},
    {"", "Greater", 7, makeCompare<CompareOp::greater>, kNumericTypes},
    {"", "GreaterOrEqual", 12, makeCompare<CompareOp::greaterOrEqual>, kNumericTypes},
    {"", "And", 7, makeLogical<LogicalOp::logicalAnd>, kBool},
    {"", "Or", 7, makeLogical<LogicalOp::logicalOr>, kBool},
    {"", "Xor", 7, makeLogical<LogicalOp::logicalXor>, kBool},
    {"", "Not", 1, makeNot, kBool},
    {"", "Where", 9, makeWhere, kBool, FloatSupport::all},
    {"", "IsNaN", 9, makeIsNaN, kFloatTypes | kFloat8Types},
    {"", "IsInf", 10, makeIsInf, kFloatTypes | kFloat8Types},
};

}  // namespace

std::span<const OperatorRow> logicOperators() { return kRows; }

}  // namespace tcompress::exec
