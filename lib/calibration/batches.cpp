#include "lib/calibration/batches.h"

#include <algorithm>

namespace tcompress::calibration {

std::int64_t batchSize(const data::Dataset& dataset, const ir::Model& model) {
    constexpr std::int64_t kTokens = 1024, kMostSamples = 64, kSamplesWithoutTokens = 16;
    if (const std::int64_t fixed = data::fixedBatchSize(model); fixed > 0) return fixed;
    std::int64_t length = 0;
    for (const auto& [name, array] : dataset.arrays())
        if (array.rank() == 2 && isInteger(array.dtype())) length = std::max(length, array.shape()[1]);
    return length == 0 ? kSamplesWithoutTokens : std::clamp<std::int64_t>(kTokens / length, 1, kMostSamples);
}

}  // namespace tcompress::calibration
