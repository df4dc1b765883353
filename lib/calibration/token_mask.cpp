#include "lib/calibration/token_mask.h"

#include <algorithm>

#include "lib/data/inputs.h"

namespace tcompress::calibration {

TokenMask::TokenMask(const exec::Feeds& feeds) {
    for (const auto& [name, tensor] : feeds) {
        const bool counts = isInteger(tensor.dtype()) || tensor.dtype() == DType::boolean;
        if (data::inputRole(name) != data::InputRole::attentionMask || tensor.rank() != 2 || !counts)
            continue;
        Mask mask{tensor.shape(), toInt64(tensor)};
        // A mask without padding changes nothing.
        if (std::find(mask.tokens.begin(), mask.tokens.end(), 0) != mask.tokens.end())
            masks_.push_back(std::move(mask));
    }
}

std::vector<bool> TokenMask::rowsOf(const Shape& shape) const {
    std::vector<bool> keep;
    if (shape.size() < 2) return keep;
    for (const Mask& mask : masks_) {
        const auto tokens = static_cast<std::int64_t>(mask.tokens.size());
        const bool apart = shape.size() >= 3 && shape[0] == mask.shape[0] && shape[1] == mask.shape[1];
        const bool joined = shape.size() == 2 && shape[0] == tokens;
        if (!apart && !joined) continue;
        const std::int64_t rows = elementCount(shape) / std::max<std::int64_t>(1, shape.back());
        keep.resize(static_cast<std::size_t>(rows), true);
        for (std::int64_t row = 0; row < rows; ++row)
            if (mask.tokens[static_cast<std::size_t>(row / (rows / tokens))] == 0)
                keep[static_cast<std::size_t>(row)] = false;
    }
    return keep;
}

std::vector<bool> TokenMask::elementsOf(const Shape& shape) const {
    std::vector<bool> keep;
    for (const Mask& mask : masks_) {
        if (mask.shape != shape) continue;
        keep.resize(mask.tokens.size(), true);
        for (std::size_t i = 0; i < keep.size(); ++i)
            if (mask.tokens[i] == 0) keep[i] = false;
    }
    return keep;
}

}  // namespace tcompress::calibration
