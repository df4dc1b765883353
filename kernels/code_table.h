#pragma once
// Functions of 8-bit codes by table.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

/// y[i] = table[x[i]]; the table has 256 entries.
void lookUp(std::span<const std::uint8_t> x, std::span<const std::uint8_t, 256> table, std::uint8_t* y);

}  // namespace tcompress::kernels
