#pragma once
// A model brought to the opset that what a pass writes needs.

#include <cstdint>
#include <string_view>

#include "lib/pipeline/pass.h"

namespace tcompress::passes {

/// DequantizeLinear with a scale for each index of an axis.
inline constexpr std::int64_t kOpsetOfScalesPerChannel = 13;
/// DequantizeLinear with blocks along an axis, and 4-bit integers.
inline constexpr std::int64_t kOpsetOfBlocks = 21;

/// Raises the opset where it is below `needed`, with a note. `what`: what needs it, in the plural. PassError when the
/// converter cannot.
void raiseOpsetFor(ir::Model& model, std::int64_t needed, std::string_view what, std::string_view pass,
                   pipeline::PassReport& report);

}  // namespace tcompress::passes
