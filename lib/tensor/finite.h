#pragma once
// Whether values are numbers.

#include <algorithm>
#include <cmath>
#include <span>

namespace tcompress {

inline bool allFinite(std::span<const float> values) {
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace tcompress
