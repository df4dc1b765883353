// com.microsoft operators that ONNX Runtime's fusions and weight-only quantization emit.

#include <algorithm>

#include "kernels/activation.h"
#include "lib/exec/ops/matmul_support.h"

namespace tcompress::exec {

namespace {

/// activation(x + bias), the bias along the last axis and optional.
Runner biasActivation(kernels::Activation activation) {
    return [activation](OpContext& context) {
        const Tensor& x = context.input(0);
        const auto y = context.output<float>(0, x.shape());
        if (!context.has(1)) {
            kernels::activate(activation, x.data<float>(), y);
            return;
        }
        const Tensor& bias = context.input(1);
        const BroadcastPlan plan = broadcastPlan({&x, &bias});
        if (plan.shape != x.shape()) throw ModelError(fmt::format("bias {} does not fit {}", toString(bias.shape()), toString(x.shape())));
        kernels::binary<float>(kernels::BinaryOp::add, plan.loop, x.data<float>().data(), bias.data<float>().data(), y.data());
        kernels::activate(activation, y, y);
    };
}

Runner makeBiasGelu(const NodeInfo&) { return biasActivation(kernels::Activation::geluErf); }
Runner makeFastGelu(const NodeInfo&) { return biasActivation(kernels::Activation::geluTanh); }

/// Weights of MatMulNBits as a dense float matrix [N, K]. B is uint8 [N, blocks, blockSize · bits / 8] (low bits first), scales
/// [N · blocks], zero points packed the same way along the blocks of a row, or float, or left out (the middle). With a group
/// index the column i belongs to block groups[i], wherever it lies.
Tensor nBitsMatrix(const NodeInfo& info, std::int64_t n, std::int64_t k, std::int64_t bits, std::int64_t block) {
    const Tensor& b = *info.constant(1);
    const std::vector<float> scales = toFloat32(*info.constant(2));
    constexpr std::int64_t kLargest = std::int64_t{1} << 31;
    if (b.dtype() != DType::uint8 || n < 1 || n > kLargest || k < 1 || k > kLargest || block < 1 || block > kLargest || block * bits % 8 != 0) {
        throw ModelError(fmt::format("weights of type {}, N = {}, K = {} and blocks of {} are not what the operator defines",
                                     name(b.dtype()), n, k, block));
    }
    const std::int64_t blocks = (k + block - 1) / block;
    const std::int64_t perByte = 8 / bits;
    const std::int64_t blockBytes = block / perByte;
    if (b.size() != n * blocks * blockBytes || static_cast<std::int64_t>(scales.size()) != n * blocks) {
        throw ModelError(fmt::format("weights {} and {} scales do not fit N = {}, K = {}, blocks of {}", toString(b.shape()),
                                     scales.size(), n, k, block));
    }
    const auto field = [&](const std::uint8_t* packed, std::int64_t i) {
        return static_cast<float>((packed[i / perByte] >> (i % perByte * bits)) & ((1 << bits) - 1));
    };
    const auto middle = static_cast<float>(1 << (bits - 1));
    std::vector<float> zeroPoints(static_cast<std::size_t>(n * blocks), middle);
    if (const Tensor* given = info.constant(3)) {
        if (given->dtype() == DType::uint8) {
            const std::int64_t rowBytes = (blocks + perByte - 1) / perByte;
            if (given->size() != n * rowBytes) {
                throw ModelError(fmt::format("zero points of shape {} do not fit {} rows of {} blocks", toString(given->shape()), n, blocks));
            }
            for (std::int64_t i = 0; i < n * blocks; ++i) {
                zeroPoints[static_cast<std::size_t>(i)] = field(given->data<std::uint8_t>().data() + i / blocks * rowBytes, i % blocks);
            }
        } else {
            zeroPoints = toFloat32(*given);
            if (zeroPoints.size() != scales.size()) {
                throw ModelError(fmt::format("{} zero points for {} scales", zeroPoints.size(), scales.size()));
            }
        }
    }
    std::vector<std::int64_t> groups;
    if (const Tensor* given = info.constant(4)) groups = integers(*given);
    if (!groups.empty() && (static_cast<std::int64_t>(groups.size()) < k ||
                            std::any_of(groups.begin(), groups.end(), [&](std::int64_t g) { return g < 0 || g >= blocks; }))) {
        throw ModelError(fmt::format("{} group indices do not fit {} columns in {} blocks", groups.size(), k, blocks));
    }
    Tensor dense(DType::float32, {n, k});
    const auto target = dense.mutableData<float>();
    const std::uint8_t* packed = b.data<std::uint8_t>().data();
    parallelFor(n, [&](std::int64_t row) {
        for (std::int64_t i = 0; i < k; ++i) {
            const std::int64_t group = row * blocks + (groups.empty() ? i / block : groups[static_cast<std::size_t>(i)]);
            const float q = field(packed + (row * blocks + i / block) * blockBytes, i % block);
            target[static_cast<std::size_t>(row * k + i)] =
                (q - zeroPoints[static_cast<std::size_t>(group)]) * scales[static_cast<std::size_t>(group)];
        }
    });
    return dense;
}

Runner makeMatMulNBits(const NodeInfo& info) {
    const std::int64_t k = info.attributes.integer("K", 0);
    const std::int64_t n = info.attributes.integer("N", 0);
    const std::int64_t bits = info.attributes.integer("bits", 4);
    const std::int64_t block = info.attributes.integer("block_size", 32);
    if (bits != 2 && bits != 4 && bits != 8) throw KernelError(fmt::format("{} bits are not supported (2, 4 and 8 are)", bits));
    if (!info.constant(1) || !info.constant(2)) throw KernelError("weights and scales must be constant");
    if ((info.hasInput(3) && !info.constant(3)) || (info.hasInput(4) && !info.constant(4))) {
        throw KernelError("zero points and group indices must be constant");
    }
    auto packed = packMatrix(nBitsMatrix(info, n, k, bits, block), Transposed::yes);
    for (std::size_t i : {1U, 2U, 3U, 4U}) {
        if (info.constant(i)) info.markPacked(i);
    }
    return [packed](OpContext& context) {
        runLinear(context, {&context.input(0), packed.get(), context.optionalInput(5), nullptr, 1.0F, kernels::Activation::none});
    };
}

constexpr FloatSupport kSingle = FloatSupport::float32;

const OperatorRow kRows[] = {
    {kContribDomain, "BiasGelu", 1, makeBiasGelu, kFloatTypes, kSingle},
    {kContribDomain, "FastGelu", 1, makeFastGelu, kFloatTypes, kSingle},
    {kContribDomain, "MatMulNBits", 1, makeMatMulNBits, kFloatTypes, kSingle},
};

}  // namespace

std::span<const OperatorRow> contribOperators() { return kRows; }

}  // namespace tcompress::exec
