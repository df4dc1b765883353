#include "passes/quantize/table/row_allocation.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace tcompress::passes {
namespace {

constexpr int kBisections = 60;

class Allocation {
  public:
    Allocation(std::span<const double> costs, std::span<const RowFormat> formats, const RowBudget& budget)
        : costs_(costs), formats_(formats), budget_(budget), sums_(costs.size() + 1, 0.0) {
        for (std::size_t i = 0; i < costs.size(); ++i) sums_[i + 1] = sums_[i] + costs[i];
    }

    /// Formats of more bytes first, each better than the next. Keeps the best allocation that fits.
    void consider(const std::vector<std::size_t>& chosen) {
        double low = -80, high = 80;  // log₂ λ: at the high end rows take the cheapest format
        std::vector<RowTier> tiers = at(chosen, std::exp2(high));
        if (bytes(tiers) > budget_.bytes) return;
        for (int i = 0; i < kBisections; ++i) {
            const double middle = (low + high) / 2;
            std::vector<RowTier> tried = at(chosen, std::exp2(middle));
            if (bytes(tried) <= budget_.bytes) {
                high = middle;
                tiers = std::move(tried);
            } else {
                low = middle;
            }
        }
        const double error = this->error(tiers);
        if (best_.empty() || error < bestError_) {
            bestError_ = error;
            best_ = std::move(tiers);
        }
    }

    const std::vector<RowTier>& best() const { return best_; }

  private:
    std::vector<RowTier> at(const std::vector<std::size_t>& chosen, double lambda) const {
        std::vector<RowTier> tiers;
        const auto rows = static_cast<std::int64_t>(costs_.size());
        std::int64_t begin = 0;
        for (std::size_t k = 0; k < chosen.size(); ++k) {
            std::int64_t end = rows;
            // A row stays when no later format is cheaper for it.
            for (std::size_t later = k + 1; later < chosen.size(); ++later) {
                const RowFormat& better = formats_[chosen[k]];
                const RowFormat& smaller = formats_[chosen[later]];
                const double boundary =
                    lambda * (better.bytesPerRow - smaller.bytesPerRow) / (smaller.error - better.error);
                const auto at = std::partition_point(costs_.begin(), costs_.end(),
                                                     [&](double cost) { return cost > boundary; });
                end = std::min(end, static_cast<std::int64_t>(at - costs_.begin()));
            }
            if (end <= begin) continue;
            tiers.push_back({chosen[k], begin, end});
            begin = end;
        }
        return tiers;
    }

    double bytes(const std::vector<RowTier>& tiers) const {
        double sum = tiers.size() > 1 ? budget_.bytesOfSeveralTables : 0;
        for (const RowTier& tier : tiers)
            sum += formats_[tier.format].fixedBytes +
                   formats_[tier.format].bytesPerRow * static_cast<double>(tier.end - tier.begin);
        return sum;
    }

    double error(const std::vector<RowTier>& tiers) const {
        double sum = 0;
        for (const RowTier& tier : tiers)
            sum += formats_[tier.format].error *
                   (sums_[static_cast<std::size_t>(tier.end)] - sums_[static_cast<std::size_t>(tier.begin)]);
        return sum;
    }

    std::span<const double> costs_;
    std::span<const RowFormat> formats_;
    const RowBudget& budget_;
    std::vector<double> sums_;
    std::vector<RowTier> best_;
    double bestError_ = 0;
};

}  // namespace

std::vector<RowTier> allocateRows(std::span<const double> costs, std::span<const RowFormat> formats,
                                  const RowBudget& budget) {
    // Only formats that no other beats in both size and error.
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < formats.size(); ++i) {
        const bool beaten = std::any_of(formats.begin(), formats.end(), [&](const RowFormat& other) {
            return other.bytesPerRow <= formats[i].bytesPerRow && other.error < formats[i].error;
        });
        if (!beaten) order.push_back(i);
    }
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return formats[a].bytesPerRow > formats[b].bytesPerRow; });
    Allocation allocation(costs, formats, budget);
    std::vector<std::size_t> chosen;
    const std::function<void(std::size_t)> choose = [&](std::size_t first) {
        if (!chosen.empty()) allocation.consider(chosen);
        if (chosen.size() == budget.mostFormats) return;
        for (std::size_t i = first; i < order.size(); ++i) {
            chosen.push_back(order[i]);
            choose(i + 1);
            chosen.pop_back();
        }
    };
    choose(0);
    return allocation.best();
}

}  // namespace tcompress::passes
