#pragma once
// What solvers hand on from row to row.

#include <cstdint>

namespace tcompress::passes {

/// target += factor · source.
void addMultiple(float* target, const float* source, float factor, std::int64_t count);

}  // namespace tcompress::passes
