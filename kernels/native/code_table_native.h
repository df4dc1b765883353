#pragma once
#include <cstdint>

namespace tcompress::kernels {

void lookUpPlain(const std::uint8_t* x, std::int64_t count, const std::uint8_t* table, std::uint8_t* y);
/// Needs AVX-512 VBMI.
void lookUpAvx512(const std::uint8_t* x, std::int64_t count, const std::uint8_t* table, std::uint8_t* y);

}  // namespace tcompress::kernels
