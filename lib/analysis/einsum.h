#pragma once
// The equation of an Einsum, parsed. Private to lib/analysis.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tcompress::analysis {

struct EinsumEquation {
    std::vector<std::string> inputs;  ///< one letter an axis
    std::string output;
};

/// nullopt for an ellipsis or a repeated letter within one term (a diagonal): forms that no Transformer
/// export uses.
std::optional<EinsumEquation> parseEinsum(std::string_view equation);

}  // namespace tcompress::analysis
