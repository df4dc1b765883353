#pragma once
// What a model declares of its inputs, and the roles that exporters' names tell: shared by fitting and
// synthesis.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/ir/model.h"

namespace tcompress::data {

enum class InputRole {
    other,
    attentionMask,  ///< 1 = token, 0 = padding
    tokenType,      ///< segment numbers
    positions,      ///< 0, 1, 2 …
    pastKeyValue,   ///< key/value cache of earlier steps
};
InputRole inputRole(std::string_view name);

struct InputDim {
    std::int64_t size = -1;  ///< -1 when dynamic
    std::string symbol;      ///< dim_param; empty when there is none
};

struct InputInfo {
    std::string name;
    DType dtype = DType::undefined;
    bool ranked = false;
    std::vector<InputDim> dims;  ///< empty when not ranked

    /// "int64 [batch, sequence]", as messages say it.
    std::string describe() const;
};

/// The graph inputs in order.
std::vector<InputInfo> modelInputs(const ir::Model& model);

/// Rows of the smallest table that this value indexes, through nodes that only move or cast indices; none when it
/// indexes none of known size.
std::optional<std::int64_t> indexedRows(const ir::Value& value);

/// "float32 [450, 1, 8, 8]".
std::string describe(const Tensor& tensor);

}  // namespace tcompress::data
