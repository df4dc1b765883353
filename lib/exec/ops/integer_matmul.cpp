// Products of 8-bit matrices: MatMulInteger, QLinearMatMul and the com.microsoft forms with float results.

#include "kernels/matmul_int8.h"

#include "kernels/quantize.h"
#include "lib/exec/ops/integer_matmul.h"
#include "lib/exec/ops/matmul_support.h"
#include "lib/exec/ops/type_attribute.h"

namespace tcompress::exec {

std::vector<std::int32_t> zeroPointValues(const Tensor* zeroPoint) {
    if (!zeroPoint) return {};
    const std::vector<std::int64_t> values = integers(*zeroPoint);
    return {values.begin(), values.end()};
}

std::optional<kernels::Int8Code> codeAttribute(const Attributes& attributes, const std::string& prefix) {
    if (!attributes.has(prefix + "_type")) return std::nullopt;
    return kernels::Int8Code{typeAttribute(attributes, prefix + "_type"), attributes.real(prefix + "_scale", 1),
                             static_cast<std::int32_t>(attributes.integer(prefix + "_zero_point", 0))};
}

namespace {

/// `values` (scales, zero points, a bias) must be none, one, or one for each of `count` rows or columns.
void requireOneOrEach(std::size_t values, std::int64_t count, std::string_view what) {
    if (values > 1 && static_cast<std::int64_t>(values) != count) throw ModelError(fmt::format("{} {} do not fit {}", values, what, count));
}

}  // namespace

kernels::PackedInt8WeightsPtr packInt8Matrix(const Tensor& weights, const std::vector<std::int32_t>& zeroPoints,
                                             Transposed transposed) {
    const std::int64_t rows = weights.shape()[0];
    const std::int64_t columns = weights.shape()[1];
    const void* data = weights.bytes().data();
    requireOneOrEach(zeroPoints.size(), transposed == Transposed::yes ? rows : columns, "zero points of the columns");
    return transposed == Transposed::yes
               ? kernels::packInt8Weights(data, weights.dtype(), columns, rows, 1, columns, zeroPoints)
               : kernels::packInt8Weights(data, weights.dtype(), rows, columns, columns, 1, zeroPoints);
}

namespace {

bool isByteMatrix(const Tensor* tensor) {
    return tensor && tensor->rank() == 2 && kByteTypes.contains(tensor->dtype());
}

/// A·B with zero points subtracted, int32. `packed` is null when B is computed.
void integerProduct(const Tensor& a, const Tensor& b, const std::vector<std::int32_t>& aZero,
                    const std::vector<std::int32_t>& bZero, const kernels::PackedInt8Weights* packed,
                    const MatmulGeometry& g, std::int32_t* c) {
    requireOneOrEach(aZero.size(), g.m, "zero points of the rows");
    requireOneOrEach(bZero.size(), g.n, "zero points of the columns");
    if (packed) {
        kernels::Int8Matmul params;
        params.a = a.bytes().data();
        params.aType = a.dtype();
        params.aStride = g.k;
        params.m = g.m * elementCount(g.batch);
        // One zero point a row of a matrix repeats over the batch.
        std::vector<std::int32_t> rowZero = aZero;
        if (aZero.size() > 1) {
            rowZero.clear();
            while (static_cast<std::int64_t>(rowZero.size()) < params.m) rowZero.insert(rowZero.end(), aZero.begin(), aZero.end());
        }
        params.aZeroPoints = rowZero;
        params.weights = packed;
        params.c = c;
        params.cStride = g.n;
        kernels::matmulInt8(params);
        return;
    }
    const std::int64_t batches = elementCount(g.batch);
    const std::vector<std::int64_t> strides = stridesOf(g.batch);
    for (std::int64_t i = 0; i < batches; ++i) {
        std::int64_t aOffset = 0;
        std::int64_t bOffset = 0;
        for (std::size_t d = 0; d < g.batch.size(); ++d) {
            const std::int64_t position = i / strides[d] % g.batch[d];
            aOffset += position * g.aBatchStrides[d];
            bOffset += position * g.bBatchStrides[d];
        }
        kernels::matmulInt8Unpacked(a.bytes().data() + aOffset, a.dtype(), aZero, b.bytes().data() + bOffset, b.dtype(),
                                    bZero, g.m, g.k, g.n, c + i * g.m * g.n);
    }
}

Runner makeMatMulInteger(const NodeInfo& info) {
    kernels::PackedInt8WeightsPtr packed;
    if (isByteMatrix(info.constant(1)) && (!info.hasInput(3) || info.constant(3))) {
        packed = packInt8Matrix(*info.constant(1), zeroPointValues(info.constant(3)), Transposed::no);
    }
    return [packed](OpContext& context) {
        const Tensor& a = context.input(0);
        const Tensor& b = context.input(1);
        const MatmulGeometry g = matmulGeometry(a.shape(), b.shape());
        integerProduct(a, b, zeroPointValues(context.optionalInput(2)), zeroPointValues(context.optionalInput(3)),
                       packed.get(), g, context.output<std::int32_t>(0, g.result).data());
    };
}

/// y = saturate(round(product · aScale · bScale / yScale) + yZero).
Runner makeQLinearMatMul(const NodeInfo& info) {
    kernels::PackedInt8WeightsPtr packed;
    if (isByteMatrix(info.constant(3)) && info.constant(5)) {
        packed = packInt8Matrix(*info.constant(3), zeroPointValues(info.constant(5)), Transposed::no);
    }
    return [packed](OpContext& context) {
        const Tensor& a = context.input(0);
        const Tensor& b = context.input(3);
        const std::vector<float> aScale = toFloat32(context.input(1));
        const std::vector<float> bScale = toFloat32(context.input(4));
        const float yScale = realScalar(context.input(6));
        const Tensor& yZero = context.input(7);
        const MatmulGeometry g = matmulGeometry(a.shape(), b.shape());
        const std::int64_t count = elementCount(g.result);
        if (aScale.empty() || bScale.empty() || yZero.size() != 1) throw ModelError("a scale or the zero point of the result has no value");
        const auto sums = context.scratch<std::int32_t>(count);
        integerProduct(a, b, zeroPointValues(&context.input(2)), zeroPointValues(&context.input(5)), packed.get(), g,
                       sums.get());
        requireOneOrEach(aScale.size(), g.m, "scales of the rows");
        requireOneOrEach(bScale.size(), g.n, "scales of the columns");
        const auto real = context.scratch<float>(count);
        for (std::int64_t i = 0; i < count; ++i) {
            const auto row = static_cast<std::size_t>(i / g.n % g.m);
            const auto column = static_cast<std::size_t>(i % g.n);
            const float scale = aScale[aScale.size() == 1 ? 0 : row] * bScale[bScale.size() == 1 ? 0 : column] / yScale;
            real.get()[i] = static_cast<float>(sums.get()[i]) * scale;
        }
        const float one = 1;
        kernels::QuantizeLinear params;
        params.layout.axis = count;
        params.x = real.get();
        params.scales = &one;
        params.zeroPoints = yZero.bytes().data();
        params.type = yZero.dtype();
        params.y = context.outputBytes(0, yZero.dtype(), g.result);
        kernels::quantizeLinear(params);
    };
}

}  // namespace

void runDynamicInt8Linear(OpContext& context, const Int8LinearCall& call) {
    kernels::DynamicInt8Matmul params;
    params.bScales = call.scales;
    runLinearKernel(context, call, params, [](const kernels::DynamicInt8Matmul& p) { kernels::matmulInt8(p); });
}

void runStaticInt8Linear(OpContext& context, const Int8LinearCall& call, const Int8LinearCodes& codes) {
    if (call.x->dtype() != codes.x.type) refuseType(call.x->dtype());
    const std::int64_t k = kernels::rows(*call.weights);
    const std::int64_t n = kernels::columns(*call.weights);
    const LinearShape shape = linearShape(*call.x, k, n, call.bias);
    const bool inPlace = fitsInPlace(call.residual, shape.result);
    TCOMPRESS_CHECK(!codes.y || !call.residual || inPlace, "codes are not made of a broadcast residual");
    kernels::ScaledInt8Matmul params;
    params.a = call.x->bytes().data();
    params.aStride = k;
    params.m = shape.rows;
    params.aCode = codes.x;
    params.weights = call.weights;
    params.bScales = call.scales;
    params.beforeBias = codes.beforeBias;
    params.epilogue.activation = call.activation;
    if (call.bias) params.epilogue.bias = call.bias->data<float>().data();
    if (inPlace) {
        params.epilogue.residual = call.residual->data<float>().data();
        params.epilogue.residualStride = n;
    }
    params.result = codes.y;
    params.c = context.outputBytes(0, codes.y ? codes.y->type : DType::float32, shape.result);
    params.cStride = n;
    kernels::matmulInt8(params);
    if (call.residual && !inPlace) addResidual(context, *call.residual);
}

namespace {

/// Float A, quantized B: inputs A, B, bScale, [bZero], [bias].
Runner makeDynamicQuantizeMatMul(const NodeInfo& info) {
    kernels::PackedInt8WeightsPtr constant;
    if (isByteMatrix(info.constant(1)) && (!info.hasInput(3) || info.constant(3))) {
        constant = packInt8Matrix(*info.constant(1), zeroPointValues(info.constant(3)), Transposed::no);
        info.markPacked(1);
    }
    return [constant](OpContext& context) {
        kernels::PackedInt8WeightsPtr packed = constant;
        if (!packed) {
            if (!isByteMatrix(&context.input(1))) throw KernelError("weights that are no 8-bit matrix are not supported");
            packed = packInt8Matrix(context.input(1), zeroPointValues(context.optionalInput(3)), Transposed::no);
        }
        const std::vector<float> scales = toFloat32(context.input(2));
        requireOneOrEach(scales.size(), kernels::columns(*packed), "scales of the columns");
        runDynamicInt8Linear(context, {&context.input(0), packed.get(), scales, context.optionalInput(4), nullptr,
                                       kernels::Activation::none});
    };
}

/// Inputs A, B, aScale, bScale, [aZero], [bZero], [bias].
Runner makeMatMulIntegerToFloat(const NodeInfo& info) {
    kernels::PackedInt8WeightsPtr packed;
    if (isByteMatrix(info.constant(1)) && (!info.hasInput(5) || info.constant(5))) {
        packed = packInt8Matrix(*info.constant(1), zeroPointValues(info.constant(5)), Transposed::no);
    }
    return [packed](OpContext& context) {
        const Tensor& a = context.input(0);
        const Tensor& b = context.input(1);
        const MatmulGeometry g = matmulGeometry(a.shape(), b.shape());
        const std::vector<float> aScale = toFloat32(context.input(2));
        const std::vector<float> bScale = toFloat32(context.input(3));
        const std::int64_t count = elementCount(g.result);
        const auto sums = context.scratch<std::int32_t>(count);
        integerProduct(a, b, zeroPointValues(context.optionalInput(4)), zeroPointValues(context.optionalInput(5)),
                       packed.get(), g, sums.get());
        requireOneOrEach(bScale.size(), g.n, "scales of the columns");
        if (context.has(6) && context.input(6).size() != g.n) {
            throw ModelError(fmt::format("a bias of shape {} does not fit {} columns", toString(context.input(6).shape()), g.n));
        }
        const float* bias = context.has(6) ? context.data<float>(6).data() : nullptr;
        float* y = context.output<float>(0, g.result).data();
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t column = i % g.n;
            const float scale = aScale.front() * bScale[bScale.size() == 1 ? 0 : static_cast<std::size_t>(column)];
            y[i] = static_cast<float>(sums.get()[i]) * scale + (bias ? bias[column] : 0.0F);
        }
    };
}

const OperatorRow kRows[] = {
    {"", "MatMulInteger", 10, makeMatMulInteger, kByteTypes, FloatSupport::all},
    {"", "QLinearMatMul", 10, makeQLinearMatMul, kByteTypes, FloatSupport::all},
    {kContribDomain, "DynamicQuantizeMatMul", 1, makeDynamicQuantizeMatMul, TypeSet{DType::float32}, FloatSupport::float32},
    {kContribDomain, "MatMulIntegerToFloat", 1, makeMatMulIntegerToFloat, kByteTypes, FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> integerMatmulOperators() { return kRows; }

}  // namespace tcompress::exec
