// The linear layer whose weights stay in 2, 4 or 8 bits (domain "tcompress"), made of MatMulNBits or of
// DequantizeLinear → MatMul. The rewrite has checked that shapes fit.

#include "kernels/matmul_coded.h"
#include "kernels/quantize.h"
#include "kernels/transpose.h"
#include "lib/exec/ops/matmul_support.h"
#include "lib/support/parallel.h"

namespace tcompress::exec {

namespace {

/// Integers of up to 8 bits as unsigned codes, one a byte: signed ones are raised by half their range.
std::vector<std::uint8_t> unsignedCodes(const Tensor& tensor) {
    const int bits = bitsPerElement(tensor.dtype());
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(tensor.size()));
    if (bits < 8) {
        kernels::unpackSubByte(tensor.dtype(), tensor.bytes(),
                               {reinterpret_cast<std::int8_t*>(codes.data()), codes.size()});
    } else {
        std::memcpy(codes.data(), tensor.bytes().data(), codes.size());
    }
    const bool isSigned =
        tensor.dtype() == DType::int8 || tensor.dtype() == DType::int4 || tensor.dtype() == DType::int2;
    const auto middle = static_cast<std::uint8_t>(1 << (bits - 1));
    if (isSigned)
        for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(code + middle);
    return codes;
}

/// [rows, columns] → [columns, rows].
std::vector<float> transposed(const std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
    std::vector<float> result(values.size());
    const std::vector<std::int64_t> shape{rows, columns}, permutation{1, 0};
    kernels::transpose(values.data(), 4, shape, permutation, result.data());
    return result;
}

/// A tensor of DequantizeLinear, [K, N] or [N, K], with scales of its rank, one a column, or one.
kernels::PackedCodesPtr packDequantized(const NodeInfo& info, std::size_t sumAxis) {
    const Tensor& weights = *info.constant(1);
    const Tensor& given = *info.constant(2);
    const Tensor* zeroPoints = info.constant(3);
    kernels::CodedMatrix matrix;
    matrix.k = weights.shape()[sumAxis];
    matrix.n = weights.shape()[1 - sumAxis];
    matrix.bits = bitsPerElement(weights.dtype());
    matrix.block = info.attributes.integer("block_size", 0);
    const std::int64_t blocks = (matrix.k + matrix.block - 1) / matrix.block;
    const std::vector<std::uint8_t> codes = unsignedCodes(weights);
    matrix.codes = codes.data();
    matrix.rowStride = sumAxis == 0 ? matrix.n : 1;
    matrix.columnStride = sumAxis == 0 ? 1 : matrix.k;
    // One scale a block and column, [blocks][N].
    const auto spread = [&](std::vector<float> values) {
        if (values.size() == 1)
            return std::vector<float>(static_cast<std::size_t>(blocks * matrix.n), values.front());
        return given.rank() == 2 && sumAxis == 1 ? transposed(values, matrix.n, blocks) : std::move(values);
    };
    const std::vector<float> scales = spread(toFloat32(given));
    const bool isSigned =
        weights.dtype() == DType::int8 || weights.dtype() == DType::int4 || weights.dtype() == DType::int2;
    std::vector<float> zeros{isSigned ? static_cast<float>(1 << (matrix.bits - 1)) : 0.0F};
    if (zeroPoints) {
        const std::vector<std::uint8_t> stored = unsignedCodes(*zeroPoints);
        const bool same = std::all_of(stored.begin(), stored.end(),
                                      [&](std::uint8_t zero) { return zero == stored.front(); });
        zeros = same ? std::vector<float>{static_cast<float>(stored.front())}
                     : spread({stored.begin(), stored.end()});
    }
    matrix.scales = scales;
    matrix.zeroPoints = zeros;
    return kernels::packCodes(matrix);
}

/// B of MatMulNBits: [N, blocks, block_size · bits / 8] bytes, low bits first; scales [N · blocks]; zero
/// points packed like B along the blocks of a row, or floats, or left out (the middle).
kernels::PackedCodesPtr packNBits(const NodeInfo& info) {
    kernels::CodedMatrix matrix;
    matrix.k = info.attributes.integer("K", 0);
    matrix.n = info.attributes.integer("N", 0);
    matrix.bits = static_cast<int>(info.attributes.integer("bits", 4));
    matrix.block = info.attributes.integer("block_size", 32);
    const std::int64_t blocks = (matrix.k + matrix.block - 1) / matrix.block;
    const DType type = matrix.bits == 8 ? DType::uint8 : matrix.bits == 4 ? DType::uint4 : DType::uint2;
    const auto codesOf = [&](const Tensor& bytes, std::int64_t rows) {
        return unsignedCodes(Tensor::share(type, {rows, bytes.size() / rows * 8 / matrix.bits}, bytes.storage()));
    };
    matrix.rowStride = 1;
    matrix.columnStride = blocks * matrix.block;
    const std::byte* packed = info.constant(1)->bytes().data();
    matrix.unpack = [&, rowBytes = matrix.columnStride * matrix.bits / 8](std::int64_t first, std::int64_t columns, std::uint8_t* target) {
        const auto count = static_cast<std::size_t>(columns * matrix.columnStride);
        const std::span source(packed + first * rowBytes, static_cast<std::size_t>(columns * rowBytes));
        if (matrix.bits == 8)
            std::memcpy(target, source.data(), source.size());
        else
            kernels::unpackSubByte(type, source, {reinterpret_cast<std::int8_t*>(target), count});
    };
    const std::vector<float> scales = transposed(toFloat32(*info.constant(2)), matrix.n, blocks);
    std::vector<float> zeros{static_cast<float>(1 << (matrix.bits - 1))};
    if (const Tensor* given = info.constant(3)) {
        if (given->dtype() == DType::uint8) {
            const std::vector<std::uint8_t> stored = codesOf(*given, matrix.n);
            const std::int64_t width = static_cast<std::int64_t>(stored.size()) / matrix.n;
            zeros.resize(scales.size());
            for (std::int64_t block = 0; block < blocks; ++block)
                for (std::int64_t column = 0; column < matrix.n; ++column)
                    zeros[static_cast<std::size_t>(block * matrix.n + column)] =
                        stored[static_cast<std::size_t>(column * width + block)];
        } else {
            zeros = transposed(toFloat32(*given), matrix.n, blocks);
        }
    }
    matrix.scales = scales;
    matrix.zeroPoints = zeros;
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
