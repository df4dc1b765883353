#include "lib/calibration/outliers.h"

#include <algorithm>
#include <cmath>

namespace tcompress::calibration {

void TopOutliers::add(std::span<const Rows> sources) {
    const Rows& x = sources[0];
    const auto isLarger = [](const Outlier& a, const Outlier& b) {
        const float left = std::fabs(a.value), right = std::fabs(b.value);
        if (left != right) return left > right;
        return a.row != b.row ? a.row < b.row : a.channel < b.channel;
    };
    // Candidates gather unsorted behind those that count, so that most values cost one comparison.
    const std::size_t room = 2 * count_ + 64;
    const auto cut = [&] {
        std::sort(largest_.begin(), largest_.end(), isLarger);
        if (largest_.size() > count_) largest_.resize(count_);
    };
    float threshold = largest_.size() < count_ || count_ == 0 ? -1 : std::fabs(largest_.back().value);
    for (std::int64_t row = 0; count_ > 0 && row < x.rows; ++row) {
        const std::span<const float> values = x.row(row);
        for (std::size_t c = 0; c < values.size(); ++c) {
            if (!(std::fabs(values[c]) > threshold)) continue;
            largest_.push_back({values[c], static_cast<std::int32_t>(c), rows_ + row});
            if (largest_.size() < room) continue;
            cut();
            threshold = std::fabs(largest_.back().value);
        }
    }
    cut();
    rows_ += x.rows;
}

}  // namespace tcompress::calibration
