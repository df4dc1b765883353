#pragma once
// Linear layers that multiply integers, as files spell them: what they read in float32, where their float32 result is,
// and what their weights stand for.

#include <optional>
#include <vector>

#include "lib/ir/graph.h"

namespace tcompress::passes {

struct IntegerProduct {
    ir::Node* node = nullptr;       ///< the product
    ir::Value* input = nullptr;     ///< float32, before its quantizer
    ir::Value* result = nullptr;    ///< float32, behind the scales
    ir::Value* bias = nullptr;      ///< added inside the node; null when there is none
    ir::Value* codes = nullptr;     ///< of the weights
    ir::Value* zeroPoint = nullptr; ///< of the weights; null: 0
    /// Of the weights; times `inputScale` where that is given, because the two were folded into one constant.
    ir::Value* scale = nullptr;
    ir::Value* inputScale = nullptr;

    /// The computed or stored constants that floatWeights() needs.
    std::vector<const ir::Value*> constants() const;
};

/// Nothing for other nodes, and for products whose surroundings are not those of quantizers.
std::optional<IntegerProduct> integerProduct(ir::Node& node);

/// [K, N], from the constants in the order of constants(); nothing when their shapes are not those of a matrix with one
/// scale and zero point, or one a column.
std::optional<Tensor> floatWeights(const IntegerProduct& product, const std::vector<Tensor>& constants);

/// The weights of a MatMulNBits, [K, N], from its operands B, scales and zero points (null: the middle of the codes);
/// nothing when they do not fit, or it permutes its inputs.
std::optional<Tensor> unpackedNBits(const ir::Node& node, const Tensor& packed, const Tensor& scales,
                                    const Tensor* zeroPoints);

}  // namespace tcompress::passes
