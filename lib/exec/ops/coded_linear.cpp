// The linear layer whose weights stay in 2, 4 or 8 bits (domain "tcompress"), made of MatMulNBits or of
// DequantizeLinear → MatMul. The rewrite has checked that shapes fit.

#include <algorithm>
#include <cstring>

#include "kernels/matmul_coded.h"
#include "kernels/quantize.h"
#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

namespace {

bool isSigned(DType type) { return type == DType::int8 || type == DType::int4 || type == DType::int2; }

/// Zero points of up to 8 bits, for unsigned codes: signed ones are raised by half their range.
std::vector<float> unsignedZeros(const Tensor& tensor) {
    const int bits = bitsPerElement(tensor.dtype());
    std::vector<std::int8_t> values(static_cast<std::size_t>(tensor.size()));
    if (bits < 8)
        kernels::unpackSubByte(tensor.dtype(), tensor.bytes(), values);
    else
        std::memcpy(values.data(), tensor.bytes().data(), values.size());
    std::vector<float> zeros;
    for (const std::int8_t value : values)
        zeros.push_back(isSigned(tensor.dtype()) ? static_cast<float>(value + (1 << (bits - 1)))
                                                 : static_cast<float>(static_cast<std::uint8_t>(value)));
    return zeros;
}

/// The tensor's own memory, or what it is converted to.
std::span<const float> asFloats(const Tensor& tensor, std::vector<float>& converted) {
    if (tensor.dtype() == DType::float32) return tensor.data<float>();
    return converted = toFloat32(tensor);
}

/// A tensor of DequantizeLinear, [K, N] or [N, K], with scales of its rank, one a column, or one.
kernels::PackedCodesPtr packDequantized(const NodeInfo& info, std::size_t sumAxis) {
    const Tensor& weights = *info.constant(1);
    const Tensor& scales = *info.constant(2);
    kernels::CodedMatrix matrix;
    matrix.k = weights.shape()[sumAxis];
    matrix.n = weights.shape()[1 - sumAxis];
    matrix.bits = matrix.storedBits = bitsPerElement(weights.dtype());
    matrix.block = info.attributes.integer("block_size", 0);
    matrix.codes = weights.bytes().data();
    if (isSigned(weights.dtype())) matrix.stored = kernels::StoredCodes::twosComplement;
    matrix.rowStride = sumAxis == 0 ? matrix.n : 1;
    matrix.columnStride = sumAxis == 0 ? 1 : matrix.k;
    matrix.scaleColumnStride = scales.size() == 1 ? 0 : 1;
    if (scales.rank() == 2) {
        matrix.scaleBlockStride = sumAxis == 0 ? matrix.n : 1;
        matrix.scaleColumnStride = sumAxis == 0 ? 1 : scales.shape()[1];
    }
    std::vector<float> converted;
    matrix.scales = asFloats(scales, converted);
    std::vector<float> zeros{isSigned(weights.dtype()) ? static_cast<float>(1 << (matrix.bits - 1)) : 0.0F};
    if (const Tensor* given = info.constant(3)) {
        zeros = unsignedZeros(*given);
        if (std::all_of(zeros.begin(), zeros.end(), [&](float zero) { return zero == zeros.front(); }))
            zeros.resize(1);
    }
    matrix.zeroPoints = zeros;
    return kernels::packCodes(matrix);
}

/// B of MatMulNBits: [N, blocks, block_size · bits / 8] bytes, low bits first; scales [N · blocks]; zero
/// points packed like B along the blocks of a row, or floats, or left out (the middle).
kernels::PackedCodesPtr packNBits(const NodeInfo& info) {
    kernels::CodedMatrix matrix;
    matrix.k = info.attributes.integer("K", 0);
    matrix.n = info.attributes.integer("N", 0);
    matrix.bits = matrix.storedBits = static_cast<int>(info.attributes.integer("bits", 4));
    matrix.block = info.attributes.integer("block_size", 32);
    const std::int64_t blocks = (matrix.k + matrix.block - 1) / matrix.block;
    matrix.codes = info.constant(1)->bytes().data();
    matrix.rowStride = 1;
    matrix.columnStride = blocks * matrix.block;
    matrix.scaleBlockStride = 1;
    matrix.scaleColumnStride = blocks;
    std::vector<float> convertedScales, convertedZeros{static_cast<float>(1 << (matrix.bits - 1))};
    matrix.scales = asFloats(*info.constant(2), convertedScales);
    matrix.zeroPoints = convertedZeros;
    if (const Tensor* given = info.constant(3)) {
        if (given->dtype() == DType::uint8) {
            const DType type = matrix.bits == 8   ? DType::uint8
                               : matrix.bits == 4 ? DType::uint4
                                                  : DType::uint2;
            const std::int64_t width = given->size() / matrix.n * 8 / matrix.bits;  // whole bytes a row
            const std::vector<float> stored =
                unsignedZeros(Tensor::share(type, {matrix.n, width}, given->storage()));
            convertedZeros.clear();
            for (std::int64_t column = 0; column < matrix.n; ++column)
                convertedZeros.insert(convertedZeros.end(), stored.begin() + column * width,
                                      stored.begin() + column * width + blocks);
            matrix.zeroPoints = convertedZeros;
        } else {
            matrix.zeroPoints = asFloats(*given, convertedZeros);
        }
    }
    return kernels::packCodes(matrix);
}

/// Inputs x, W, scales, [zero points] (constant), [bias], [residual].
Runner makeCodedLinear(const NodeInfo& info) {
    const auto activation = static_cast<kernels::Activation>(info.attributes.integer("activation", 0));
    const float alpha = info.attributes.real("alpha", 1);
    auto packed =
        info.attributes.has("sum_axis")
            ? packDequantized(info, static_cast<std::size_t>(info.attributes.integer("sum_axis", 0)))
            : packNBits(info);
    for (std::size_t i : {1U, 2U, 3U}) {
        if (info.constant(i)) info.markPacked(i);
    }
    struct Call {
        const Tensor* x;
        const kernels::PackedCodes* weights;
        const Tensor* bias;
        const Tensor* residual;
        kernels::Activation activation;
    };
    return [=](OpContext& context) {
        kernels::CodedMatmul params;
        params.epilogue.alpha = alpha;
        const Call call{&context.input(0), packed.get(), context.optionalInput(4), context.optionalInput(5),
                        activation};
        runLinearKernel(context, call, params, [](const kernels::CodedMatmul& p) { kernels::matmul(p); });
    };
}

const OperatorRow kRows[] = {
    {kFusedDomain, "CodedLinear", 1, makeCodedLinear, TypeSet{DType::float32}, FloatSupport::float32},
};

}  // namespace

std::span<const OperatorRow> codedLinearOperators() { return kRows; }

}  // namespace tcompress::exec
