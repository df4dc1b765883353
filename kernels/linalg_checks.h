#pragma once
// Checks of the input of linear algebra, shared by its files.

#include <fmt/core.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "lib/support/check.h"
#include "lib/support/error.h"

namespace tcompress::kernels {

/// Throws KernelError with the position of the first NaN or infinity of a row-major matrix.
template <class T>
void requireFinite(std::span<const T> values, std::int64_t columns, std::string_view what) {
    for (std::size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]))
            throw KernelError(fmt::format("{}: element [{}, {}] is {}; a finite matrix is needed", what,
                                          static_cast<std::int64_t>(i) / columns,
                                          static_cast<std::int64_t>(i) % columns, values[i]));
}

/// LAPACK counts in int.
inline int toInt(std::int64_t size) {
    TCOMPRESS_CHECK(size >= 0 && size <= std::numeric_limits<int>::max(), "matrix too large for LAPACK");
    return static_cast<int>(size);
}

}  // namespace tcompress::kernels
