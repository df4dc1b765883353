// MatMul and Gemm in the standard domain and com.microsoft. Constant matrices are packed when the plan is made.

#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

namespace {

struct MatmulOptions {
    float alpha = 1;
    Transposed a = Transposed::no;
    Transposed b = Transposed::no;
};

Transposed flag(const NodeInfo& info, std::string_view name) {
    return info.attributes.integer(name, 0) ? Transposed::yes : Transposed::no;
}

void multiply(OpContext& context, const Tensor& a, const Tensor& b, MatmulOptions options) {
    const MatmulGeometry geometry = matmulGeometry(a.shape(), b.shape(), options.a, options.b);
    kernels::Epilogue epilogue;
    epilogue.alpha = options.alpha;
    multiplyInto(geometry, a, b, context.outputBytes(0, a.dtype(), geometry.result), epilogue);
}

Runner matmulRunner(const NodeInfo& info, MatmulOptions options) {
    const Tensor* constant = info.constant(1);
    if (constant && constant->rank() == 2 && constant->dtype() == DType::float32 && options.a == Transposed::no) {
        auto packed = packMatrix(*constant, options.b);
        info.markPacked(1);
        return [packed, options](OpContext& context) {
            LinearCall call;
            call.x = &context.input(0);
            call.weights = packed.get();
            call.alpha = options.alpha;
            runLinear(context, call);
        };
    }
    return [options](OpContext& context) { multiply(context, context.input(0), context.input(1), options); };
}

Runner makeMatMul(const NodeInfo& info) { return matmulRunner(info, {}); }

/// The first axis of an operand [rows, batch…, columns] moved to where a matrix product wants it.
Tensor rowsAfterBatch(const Tensor& x) {
    std::vector<std::int64_t> order;
    for (std::int64_t axis = 1; axis + 1 < x.rank(); ++axis) order.push_back(axis);
    order.push_back(0);
    order.push_back(x.rank() - 1);
    return x.rank() > 2 ? transpose(x, order) : x;
}

Runner makeFusedMatMul(const NodeInfo& info) {
    const MatmulOptions options{info.attributes.real("alpha", 1), flag(info, "transA"), flag(info, "transB")};
    const bool rowsFirstA = flag(info, "transBatchA") == Transposed::yes;
    const bool rowsFirstB = flag(info, "transBatchB") == Transposed::yes;
    if (!rowsFirstA && !rowsFirstB) return matmulRunner(info, options);
    return [=](OpContext& context) {
        const Tensor a = rowsFirstA ? rowsAfterBatch(context.input(0)) : context.input(0);
        const Tensor b = rowsFirstB ? rowsAfterBatch(context.input(1)) : context.input(1);
        multiply(context, a, b, options);
    };
}

/// C[M, N] from anything that broadcasts to it, times beta.
Tensor expandedAddend(OpContext& context, const Tensor& c, float beta, const Shape& shape) {
    std::byte* elements = nullptr;
    Tensor result = context.temporary(DType::float32, shape, &elements);
    const Tensor scale = Tensor::scalar(beta);
    const std::vector<Shape> operands{c.shape(), {}};
    kernels::binary<float>(kernels::BinaryOp::multiply, kernels::broadcast(shape, operands), c.data<float>().data(),
                           scale.data<float>().data(), reinterpret_cast<float*>(elements));
    return result;
}

bool isRow(const Tensor& c, std::int64_t columns) { return c.size() == columns && c.rank() >= 1 && c.shape().back() == columns; }

void requireAddend(const Tensor& c, const Shape& result) {
    if (kernels::broadcastShape(result, c.shape()) == result) return;
    throw ModelError(fmt::format("C of shape {} does not broadcast to {}", toString(c.shape()), toString(result)));
}

/// alpha · A' · B' + beta · C for float32.
Runner floatGemm(const NodeInfo& info, MatmulOptions options, float beta) {
    kernels::PackedWeightsPtr packed;
    const Tensor* constant = info.constant(1);
    if (constant && constant->rank() == 2 && constant->dtype() == DType::float32 && options.a == Transposed::no) {
        packed = packMatrix(*constant, options.b);
        info.markPacked(1);
    }
    const Shape constantShape = packed ? constant->shape() : Shape{};
    return [packed, constantShape, options, beta](OpContext& context) {
        const Tensor& a = context.input(0);
        const Tensor* c = context.optionalInput(2);
        const Shape& bShape = packed ? constantShape : context.input(1).shape();
        const MatmulGeometry geometry = matmulGeometry(a.shape(), bShape, options.a, options.b);
        if (c) requireAddend(*c, geometry.result);
        Tensor residual;
        const Tensor* bias = nullptr;
        if (c && beta == 1.0F && isRow(*c, geometry.n)) {
            bias = c;
        } else if (c && beta != 0.0F) {
            // Expanded, so that it has the result's shape whatever C's is.
            residual = expandedAddend(context, *c, beta, geometry.result);
        }
        const Tensor* addend = residual.dtype() == DType::float32 ? &residual : nullptr;
        if (packed) {
            runLinear(context, {&a, packed.get(), bias, addend, options.alpha, kernels::Activation::none});
            return;
        }
        kernels::Epilogue epilogue;
        epilogue.alpha = options.alpha;
        if (bias) epilogue.bias = bias->data<float>().data();
        if (addend) {
            epilogue.residual = addend->data<float>().data();
            epilogue.residualStride = geometry.n;
        }
        multiplyInto(geometry, a, context.input(1), context.outputBytes(0, a.dtype(), geometry.result), epilogue);
    };
}

/// The other types, in double or wrapping integers: product, then alpha, then beta · C.
void plainGemm(OpContext& context, MatmulOptions options, float beta) {
    const Tensor& a = context.input(0);
    const Tensor& b = context.input(1);
    const MatmulGeometry geometry = matmulGeometry(a.shape(), b.shape(), options.a, options.b);
    if (context.has(2)) requireAddend(context.input(2), geometry.result);
    multiplyInto(geometry, a, b, context.outputBytes(0, a.dtype(), geometry.result));
    Tensor result = convert(context.outputTensor(0), DType::float64);
    const auto values = result.mutableData<double>();
    for (double& value : values) value *= options.alpha;
    if (const Tensor* c = context.optionalInput(2)) {
        const Tensor addend = convert(*c, DType::float64);
        const std::vector<Shape> operands{addend.shape()};
        std::vector<double> expanded(values.size());
        kernels::expand(kernels::broadcast(geometry.result, operands), typedBytes(addend), 8, expanded.data());
        for (std::size_t i = 0; i < values.size(); ++i) values[i] += beta * expanded[i];
    }
    context.setOutput(0, convert(result, a.dtype()));
}

Runner makeGemm(const NodeInfo& info) {
    const MatmulOptions options{info.attributes.real("alpha", 1), flag(info, "transA"), flag(info, "transB")};
    const float beta = info.attributes.real("beta", 1);
    const Runner fast = floatGemm(info, options, beta);
    return [=](OpContext& context) {
        if (context.input(0).dtype() == DType::float32) {
            fast(context);
        } else {
            plainGemm(context, options, beta);
        }
    };
}

constexpr TypeSet kMatmulTypes =
    kFloatTypes | TypeSet{DType::int32, DType::uint32, DType::int64, DType::uint64};

const OperatorRow kRows[] = {
    {"", "MatMul", 1, makeMatMul, kMatmulTypes},
    {"", "Gemm", 7, makeGemm, kMatmulTypes},
    {kContribDomain, "FusedMatMul", 1, makeFusedMatMul, kFloatTypes, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> matmulOperators() { return kRows; }

}  // namespace tcompress::exec
