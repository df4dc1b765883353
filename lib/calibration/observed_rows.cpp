#include "lib/calibration/observed_rows.h"

#include <algorithm>

#include "lib/support/parallel.h"

namespace tcompress::calibration {

namespace {

/// Rows of `source` whose flag is set, one behind the other.
std::vector<float> gathered(std::span<const float> source, std::int64_t channels,
                            const std::vector<bool>& keep) {
    std::vector<std::int64_t> kept;
    for (std::size_t row = 0; row < keep.size(); ++row)
        if (keep[row]) kept.push_back(static_cast<std::int64_t>(row));
    std::vector<float> result(kept.size() * static_cast<std::size_t>(channels));
    constexpr std::int64_t kElementsOfATask = 1 << 16;
    const std::int64_t grain =
        std::max<std::int64_t>(1, kElementsOfATask / std::max<std::int64_t>(1, channels));
    parallelRanges(static_cast<std::int64_t>(kept.size()), grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            std::copy_n(source.data() + kept[static_cast<std::size_t>(i)] * channels, channels,
                        result.data() + i * channels);
    });
    return result;
}

}  // namespace

ObservedRows::ObservedRows(const Tensor& tensor, const TokenMask& mask) {
    if (tensor.size() == 0) return;
    std::vector<float> converted;
    if (tensor.dtype() != DType::float32) converted = toFloat32(tensor);
    const std::span<const float> all = tensor.dtype() == DType::float32 ? tensor.data<float>() : converted;
    // Token ids: each is a row of its own.
    const bool single = tensor.rank() == 0 || isInteger(tensor.dtype());
    const std::vector<bool> keep = single ? mask.elementsOf(tensor.shape()) : mask.rowsOf(tensor.shape());
    channels_ = single ? 1 : tensor.shape().back();
    if (!keep.empty()) {
        copy_ = gathered(all, channels_, keep);
    } else if (!converted.empty()) {
        copy_ = std::move(converted);
    }
    values_ = copy_.empty() && keep.empty() ? all : std::span<const float>(copy_);
    rows_ = static_cast<std::int64_t>(values_.size()) / channels_;
}

void ObservedRows::own() {
    if (values_.data() == copy_.data()) return;
    copy_.assign(values_.begin(), values_.end());
    values_ = copy_;
}

}  // namespace tcompress::calibration
