#include "passes/quantize/storage/integer_product.h"

#include <algorithm>

namespace tcompress::passes {
namespace {

constexpr const char* kContrib = "com.microsoft";

ir::Node* soleUser(const ir::Value* value) {
    if (value == nullptr || value->uses().size() != 1 || value->uses().front().kind != ir::UseKind::input) return nullptr;
    return value->uses().front().node;
}

/// What makes the codes, scale and zero point of an input.
struct Quantizer {
    ir::Value* input = nullptr;
    ir::Value* scale = nullptr;
    ir::Value* zeroPoint = nullptr;
};
std::optional<Quantizer> quantizerOf(const ir::Value* codes) {
    const ir::Node* node = codes == nullptr ? nullptr : codes->producer();
    if (node == nullptr) return std::nullopt;
    if (node->is("DynamicQuantizeLinear") && node->output(0) == codes)
        return Quantizer{node->input(0), node->output(1), node->output(2)};
    if (node->is("QuantizeLinear")) return Quantizer{node->input(0), node->input(1), node->input(2)};
    return std::nullopt;
}

/// MatMulInteger → Cast → Mul with (input's scale · weights' scale).
std::optional<IntegerProduct> spelledOut(ir::Node& node) {
    const auto quantizer = quantizerOf(node.input(0));
    if (!quantizer || quantizer->zeroPoint != node.input(2)) return std::nullopt;
    const ir::Node* cast = soleUser(node.output());
    ir::Node* scaled = cast != nullptr && cast->is("Cast") ? soleUser(cast->output()) : nullptr;
    if (scaled == nullptr || !scaled->is("Mul")) return std::nullopt;
    IntegerProduct product{&node, quantizer->input, scaled->output(), nullptr, node.input(1), node.input(3)};
    ir::Value* scales = scaled->input(scaled->input(0) == cast->output() ? 1 : 0);
    const ir::Node* both = scales->producer();
    const bool multiplied = both != nullptr && both->is("Mul");
    if (multiplied && (both->input(0) == quantizer->scale || both->input(1) == quantizer->scale)) {
        product.scale = both->input(both->input(0) == quantizer->scale ? 1 : 0);
    } else {
        product.scale = scales;
        product.inputScale = quantizer->scale;
    }
    return product;
}

/// Rows of bytes, values packed low bits first.
std::uint8_t packedAt(std::span<const std::uint8_t> row, std::int64_t index, int bits) {
    const auto bit = static_cast<std::size_t>(index * bits);
    return static_cast<std::uint8_t>(row[bit / 8] >> bit % 8 & ((1 << bits) - 1));
}

}  // namespace

std::vector<const ir::Value*> IntegerProduct::constants() const {
    std::vector<const ir::Value*> result{codes, scale};
    if (zeroPoint != nullptr) result.push_back(zeroPoint);
    if (inputScale != nullptr) result.push_back(inputScale);
    return result;
}

std::optional<IntegerProduct> integerProduct(ir::Node& node) {
    if (node.is("MatMulInteger")) return spelledOut(node);
    if (node.is(kContrib, "DynamicQuantizeMatMul"))
        return IntegerProduct{&node, node.input(0), node.output(), node.input(4), node.input(1), node.input(3), node.input(2)};
    if (!node.is(kContrib, "MatMulIntegerToFloat")) return std::nullopt;
    const auto quantizer = quantizerOf(node.input(0));
    if (!quantizer || quantizer->scale != node.input(2) || quantizer->zeroPoint != node.input(4)) return std::nullopt;
    return IntegerProduct{&node,         quantizer->input, node.output(), node.input(6),
                          node.input(1), node.input(5),    node.input(3)};
}

std::optional<Tensor> floatWeights(const IntegerProduct& product, const std::vector<Tensor>& constants) {
    const Tensor& codes = constants[0];
    const auto fits = [&](const Tensor& tensor) {
        return tensor.size() == 1 || (codes.rank() == 2 && tensor.size() == codes.shape()[1]);
    };
    if (codes.rank() != 2 || !std::all_of(constants.begin() + 1, constants.end(), fits)) return std::nullopt;
    std::vector<float> values = toFloat32(codes);
    std::vector<float> scales = toFloat32(constants[1]);
    std::vector<float> zeros(1, 0.0F);
    if (product.zeroPoint != nullptr) zeros = toFloat32(constants[2]);
    if (product.inputScale != nullptr)
        for (float& scale : scales) scale /= toFloat32(constants.back()).front();
    const auto columns = static_cast<std::size_t>(codes.shape().back());
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t column = i % columns;
        values[i] = (values[i] - zeros[zeros.size() == 1 ? 0 : column]) * scales[scales.size() == 1 ? 0 : column];
    }
    return Tensor::of<float>(codes.shape(), std::span<const float>(values));
}

std::optional<Tensor> unpackedNBits(const ir::Node& node, const Tensor& packed, const Tensor& scaleTensor,
                                    const Tensor* zeroPoints) {
    if (node.input(4) != nullptr) return std::nullopt;
    const std::int64_t k = node.attributeInt("K", 0), n = node.attributeInt("N", 0);
    const std::int64_t block = node.attributeInt("block_size", 32);
    const int bits = static_cast<int>(node.attributeInt("bits", 4));
    if (k <= 0 || n <= 0 || block <= 0 || (bits != 2 && bits != 4 && bits != 8)) return std::nullopt;
    const std::int64_t blocks = (k + block - 1) / block;
    const auto rowsOf = [&](const Tensor& bytes) {
        return std::span(reinterpret_cast<const std::uint8_t*>(bytes.bytes().data()), bytes.bytes().size());
    };
    const std::vector<float> scales = toFloat32(scaleTensor);
    const bool packedZeros = zeroPoints != nullptr && zeroPoints->dtype() == DType::uint8;
    const std::vector<float> floatZeros =
        zeroPoints != nullptr && !packedZeros ? toFloat32(*zeroPoints) : std::vector<float>{};
    const auto codes = rowsOf(packed);
    const std::size_t rowBytes = codes.size() / static_cast<std::size_t>(n);
    const std::size_t zeroBytes = packedZeros ? zeroPoints->bytes().size() / static_cast<std::size_t>(n) : 0;
    if (scales.size() != static_cast<std::size_t>(n * blocks) || rowBytes * 8 < static_cast<std::size_t>(k * bits) ||
        (packedZeros && zeroBytes * 8 < static_cast<std::size_t>(blocks * bits)) ||
        (!floatZeros.empty() && floatZeros.size() != scales.size()))
        return std::nullopt;
    Tensor result(DType::float32, {k, n});
    const auto values = result.mutableData<float>();
    for (std::int64_t column = 0; column < n; ++column) {
        const auto row = codes.subspan(static_cast<std::size_t>(column) * rowBytes, rowBytes);
        for (std::int64_t i = 0; i < k; ++i) {
            const auto group = static_cast<std::size_t>(column * blocks + i / block);
            float zero = static_cast<float>(1 << (bits - 1));
            if (packedZeros)
                zero = packedAt(rowsOf(*zeroPoints).subspan(static_cast<std::size_t>(column) * zeroBytes, zeroBytes), i / block, bits);
            else if (!floatZeros.empty())
                zero = floatZeros[group];
            values[static_cast<std::size_t>(i * n + column)] = (static_cast<float>(packedAt(row, i, bits)) - zero) * scales[group];
        }
    }
    return result;
}

}  // namespace tcompress::passes
