#pragma once
// The choices of least damage whose file is within a size.
//
// The knapsack adds up what weights take by themselves. What a whole file takes besides, what layers share and
// how long names become, shows when it is put together with placeholders: the knapsack's budget is corrected by
// the difference until the file fits and nothing is gained any more.

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "passes/support/choice_knapsack.h"
#include "passes/quantize/mixed/mixed_precision.h"

namespace tcompress::passes {

/// A selection and the bytes of the file that it makes.
struct SizePlan {
    KnapsackSelection selection;
    std::int64_t bytes = 0;
};

class SizePlanner {
  public:
    /// `mixed` is of the same items and must outlive the planner.
    SizePlanner(const MixedPrecision& mixed, const std::vector<WeightChoices>& items);

    /// Nothing when no file is that small.
    std::optional<SizePlan> within(std::int64_t budget);

    /// The file with every weight as it is, and with the narrowest choices.
    std::int64_t largestBytes();
    std::int64_t smallestBytes();

  private:
    KnapsackSelection smallest() const;
    std::int64_t bytesOf(const std::vector<std::size_t>& selection);

    const MixedPrecision& mixed_;
    std::vector<std::vector<KnapsackChoice>> items_;
    std::map<std::vector<std::size_t>, std::int64_t> known_;  ///< bytes of what was put together
};

}  // namespace tcompress::passes
