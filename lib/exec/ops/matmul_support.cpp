#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

namespace {

/// Strides over the result's batch axes, 0 where the operand's axis is 1 or missing.
std::vector<std::int64_t> batchStrides(const Shape& operand, const Shape& batch) {
    std::vector<std::int64_t> strides(batch.size(), 0);
    const std::size_t own = operand.size() - 2;
    std::int64_t stride = operand[own] * operand[own + 1];
    for (std::size_t i = own; i-- > 0;) {
        strides[batch.size() - own + i] = operand[i] == 1 ? 0 : stride;
        stride *= operand[i];
    }
    return strides;
}

}  // namespace

MatmulGeometry matmulGeometry(const Shape& a, const Shape& b, Transposed transposeA, Transposed transposeB) {
    if (a.empty() || b.empty()) throw ModelError("a matrix product needs operands of rank 1 or more");
    Shape left = a;
    Shape right = b;
    if (a.size() == 1) left.insert(left.begin(), 1);
    if (b.size() == 1) right.push_back(1);
    MatmulGeometry g;
    const std::int64_t aRows = left[left.size() - 2];
    const std::int64_t aColumns = left.back();
    const std::int64_t bRows = right[right.size() - 2];
    const std::int64_t bColumns = right.back();
    const bool ta = transposeA == Transposed::yes;
    const bool tb = transposeB == Transposed::yes;
    g.m = ta ? aColumns : aRows;
    g.k = ta ? aRows : aColumns;
    g.n = tb ? bRows : bColumns;
    g.aRow = ta ? 1 : aColumns;
    g.aColumn = ta ? aColumns : 1;
    g.bRow = tb ? 1 : bColumns;
    g.bColumn = tb ? bColumns : 1;
    if (g.k != (tb ? bColumns : bRows)) {
        throw ModelError(fmt::format("matrices of shapes {} and {} cannot be multiplied", toString(a), toString(b)));
    }
    g.batch = kernels::broadcastShape(std::span(left).first(left.size() - 2), std::span(right).first(right.size() - 2));
    g.aBatchStrides = batchStrides(left, g.batch);
    g.bBatchStrides = batchStrides(right, g.batch);
    g.result = g.batch;
    if (a.size() > 1) g.result.push_back(g.m);
    if (b.size() > 1) g.result.push_back(g.n);
    // One matrix on the right for all: the batch on the left is just more rows.
    const bool shared = std::all_of(g.bBatchStrides.begin(), g.bBatchStrides.end(), [](auto s) { return s == 0; });
    if (shared && !ta && left.size() - 2 == g.batch.size() &&
        Shape(left.begin(), left.end() - 2) == g.batch) {
        g.m *= elementCount(g.batch);
        g.batch.clear();
        g.aBatchStrides.clear();
        g.bBatchStrides.clear();
    }
    return g;
}

namespace {

template <class T, class Params>
void fill(Params& params, const MatmulGeometry& g, const Tensor& a, const Tensor& b, std::byte* y) {
    params.batch = g.batch;
    params.m = g.m;
    params.n = g.n;
    params.k = g.k;
    params.a = a.data<T>().data();
    params.aBatchStrides = g.aBatchStrides;
    params.aRowStride = g.aRow;
    params.aColumnStride = g.aColumn;
    params.b = b.data<T>().data();
    params.bBatchStrides = g.bBatchStrides;
    params.bRowStride = g.bRow;
    params.bColumnStride = g.bColumn;
    params.c = reinterpret_cast<T*>(y);
    params.cRowStride = g.n;
    params.cBatchStrides = stridesOf(g.batch);
    for (std::int64_t& stride : params.cBatchStrides) stride *= g.m * g.n;
}

template <class T>
void multiplyPlain(const MatmulGeometry& g, const Tensor& a, const Tensor& b, std::byte* y) {
    kernels::BatchedMatmulOf<T> params;
    fill<T>(params, g, a, b, y);
    kernels::matmulPlain(params);
}

}  // namespace

void multiplyInto(const MatmulGeometry& g, const Tensor& a, const Tensor& b, std::byte* y,
                  const kernels::Epilogue& epilogue) {
    switch (a.dtype()) {
        case DType::float32: {
            kernels::BatchedMatmul params;
            fill<float>(params, g, a, b, y);
            params.epilogue = epilogue;
            kernels::matmul(params);
            return;
        }
        case DType::float64: return multiplyPlain<double>(g, a, b, y);
        case DType::int32: return multiplyPlain<std::int32_t>(g, a, b, y);
        case DType::uint32: return multiplyPlain<std::uint32_t>(g, a, b, y);
        case DType::int64: return multiplyPlain<std::int64_t>(g, a, b, y);
        case DType::uint64: return multiplyPlain<std::uint64_t>(g, a, b, y);
        default: refuseType(a.dtype());
    }
}

kernels::PackedWeightsPtr packMatrix(const Tensor& weights, Transposed transposed) {
    const std::int64_t rows = weights.shape()[0];
    const std::int64_t columns = weights.shape()[1];
    const float* data = weights.data<float>().data();
    return transposed == Transposed::yes ? kernels::packWeights(data, columns, rows, 1, columns)
                                         : kernels::packWeights(data, rows, columns);
}

LinearShape linearShape(const Tensor& x, std::int64_t k, std::int64_t n, const Tensor* bias) {
    if (x.rank() == 0 || x.shape().back() != k) {
        throw ModelError(fmt::format("input of shape {} does not fit weights of {} rows", toString(x.shape()), k));
    }
    if (bias && bias->size() != n) {
        throw ModelError(fmt::format("bias of shape {} does not fit {} columns", toString(bias->shape()), n));
    }
    LinearShape shape{x.shape(), product(x.shape(), 0, x.shape().size() - 1)};
    shape.result.back() = n;
    return shape;
}

void runLinear(OpContext& context, const LinearCall& call) {
    kernels::PackedMatmul params;
    params.epilogue.alpha = call.alpha;
    runLinearKernel(context, call, params, [](const kernels::PackedMatmul& p) { kernels::matmul(p); });
}

bool fitsInPlace(const Tensor* residual, const Shape& result) { return residual && residual->shape() == result; }

void addResidual(OpContext& context, const Tensor& residual) {
    const Tensor product = context.outputTensor(0);
    const BroadcastPlan plan = broadcastPlan({&product, &residual});
    kernels::binary<float>(kernels::BinaryOp::add, plan.loop, product.data<float>().data(), residual.data<float>().data(),
                           context.output<float>(0, plan.shape).data());
}

}  // namespace tcompress::exec
