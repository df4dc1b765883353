#include "passes/quantize/grid/levels.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/multiversion.h"
#include "lib/support/check.h"

namespace tcompress::passes {
namespace {

/// x with Φ(x) = p, by Newton's method from 0 on; 0 < p < 1.
double normalQuantile(double p) {
    double x = 0;
    for (int i = 0; i < 64; ++i) {
        const double error = 0.5 * std::erfc(-x / std::sqrt(2.0)) - p;
        const double slope = std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0));
        const double step = std::clamp(error / slope, -0.5, 0.5);
        x -= step;
        if (std::fabs(step) < 1e-15) break;
    }
    return x;
}

/// The best partition of sorted points into runs, for one number of runs after another.
class RunPartition {
  public:
    RunPartition(std::vector<double> values, const std::vector<double>& weights, std::int64_t runs)
        : n_(static_cast<std::int64_t>(values.size())),
          runs_(runs),
          weight_(values.size() + 1, 0.0),
          sum_(values.size() + 1, 0.0),
          squares_(values.size() + 1, 0.0),
          cost_(values.size() + 1, HUGE_VAL),
          next_(values.size() + 1, HUGE_VAL),
          starts_(static_cast<std::size_t>(runs) * (values.size() + 1), 0) {
        // About the mean, so that the differences of squares below stay exact enough.
        const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n_);
        mean_ = mean;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double x = values[i] - mean;
            weight_[i + 1] = weight_[i] + weights[i];
            sum_[i + 1] = sum_[i] + weights[i] * x;
            squares_[i + 1] = squares_[i] + weights[i] * x * x;
        }
        cost_[0] = 0;
        for (std::int64_t run = 0; run < runs_; ++run) {
            std::fill(next_.begin(), next_.end(), HUGE_VAL);
            fill(run, run + 1, n_, run, n_ - 1);
            cost_.swap(next_);
        }
    }

    std::vector<float> means() const {
        std::vector<float> result(static_cast<std::size_t>(runs_));
        std::int64_t end = n_;
        for (std::int64_t run = runs_ - 1; run >= 0; --run) {
            const std::int64_t begin = start(run, end);
            result[static_cast<std::size_t>(run)] = static_cast<float>(
                mean_ + (at(sum_, end) - at(sum_, begin)) / (at(weight_, end) - at(weight_, begin)));
            end = begin;
        }
        return result;
    }

  private:
    static double at(const std::vector<double>& sums, std::int64_t i) {
        return sums[static_cast<std::size_t>(i)];
    }
    std::int32_t start(std::int64_t run, std::int64_t end) const {
        return starts_[static_cast<std::size_t>(run * (n_ + 1) + end)];
    }

    /// Squared distance of points [begin, end) from their mean.
    double spread(std::int64_t begin, std::int64_t end) const {
        const double sum = at(sum_, end) - at(sum_, begin);
        const double squares = at(squares_, end) - at(squares_, begin);
        return std::max(0.0, squares - sum * sum / (at(weight_, end) - at(weight_, begin)));
    }

    /// The cheapest run number `run` that ends at each of [low, high]: where it starts moves up with its end.
    void fill(std::int64_t run, std::int64_t low, std::int64_t high, std::int64_t first, std::int64_t last) {
        if (low > high) return;
        const std::int64_t end = (low + high) / 2;
        double best = HUGE_VAL;
        std::int64_t from = first;
        for (std::int64_t begin = first; begin <= std::min(last, end - 1); ++begin) {
            const double cost = at(cost_, begin) + spread(begin, end);
            if (cost >= best) continue;
            best = cost;
            from = begin;
        }
        next_[static_cast<std::size_t>(end)] = best;
        starts_[static_cast<std::size_t>(run * (n_ + 1) + end)] = static_cast<std::int32_t>(from);
        fill(run, low, end - 1, first, from);
        fill(run, end + 1, high, from, last);
    }

    std::int64_t n_, runs_;
    double mean_ = 0;
    std::vector<double> weight_, sum_, squares_;  ///< of the points before a place
    std::vector<double> cost_, next_;
    std::vector<std::int32_t> starts_;
};

TCOMPRESS_MULTIVERSION void countBelow(const float* values, std::int64_t n, const float* bounds,
                                       std::int64_t boundCount, std::int32_t* counts) {
    for (std::int64_t i = 0; i < n; ++i) counts[i] = 0;
    for (std::int64_t bound = 0; bound < boundCount; ++bound) {
        const float limit = bounds[bound];
        for (std::int64_t i = 0; i < n; ++i) counts[i] += values[i] > limit ? 1 : 0;
    }
}

/// Weights that activations never meet still have a level near them.
constexpr double kLeastImportance = 1e-6;

}  // namespace

std::vector<float> normalFloatLevels(int bits) {
    TCOMPRESS_CHECK(bits >= 2 && bits <= 8, "normal floats have 2 to 8 bits");
    const int half = 1 << (bits - 1);
    // The outermost quantiles are the means of those of 2^bits − 1 and of 2^bits evenly spaced cells.
    const double top = 1 - 0.5 * (1.0 / (2 * (2 * half - 1)) + 1.0 / (4 * half));
    const auto quantiles = [&](int count) {
        std::vector<double> result;
        for (int i = 0; i < count; ++i)
            result.push_back(normalQuantile(top + (0.5 - top) * i / count));
        return result;
    };
    std::vector<float> levels{0};
    const std::vector<double> positive = quantiles(half), negative = quantiles(half - 1);
    for (const double level : positive) levels.push_back(static_cast<float>(level / positive.front()));
    for (const double level : negative) levels.push_back(static_cast<float>(-level / positive.front()));
    std::sort(levels.begin(), levels.end());
    return levels;
}

std::vector<float> powerOfTwoLevels(int bits) {
    TCOMPRESS_CHECK(bits >= 2 && bits <= 5, "logarithmic levels have 2 to 5 bits");
    const int half = 1 << (bits - 1);
    std::vector<float> levels{0};
    for (int i = 0; i < half; ++i) levels.push_back(std::ldexp(1.0F, -i));
    for (int i = 0; i < half - 1; ++i) levels.push_back(-std::ldexp(1.0F, -i));
    std::sort(levels.begin(), levels.end());
    return levels;
}

std::vector<float> bestLevels(std::span<const float> weights, std::span<const float> importance,
                              std::int64_t count) {
    TCOMPRESS_CHECK(!weights.empty() && weights.size() == importance.size() && count > 0,
                    "weights and their importance do not fit");
    std::vector<std::size_t> order(weights.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return weights[a] < weights[b]; });
    const double mean = std::accumulate(importance.begin(), importance.end(), 0.0) /
                        static_cast<double>(importance.size());
    const double least = mean > 0 ? mean * kLeastImportance : 1.0;
    std::vector<double> values, counts;
    for (const std::size_t i : order) {
        const double weight = std::max<double>(importance[i], least);
        if (!values.empty() && values.back() == weights[i]) {
            counts.back() += weight;
            continue;
        }
        values.push_back(weights[i]);
        counts.push_back(weight);
    }
    const auto runs = std::min(count, static_cast<std::int64_t>(values.size()));
    std::vector<float> levels = RunPartition(std::move(values), counts, runs).means();
    levels.resize(static_cast<std::size_t>(count), levels.back());
    return levels;
}

std::uint16_t nearestLevel(float value, std::span<const float> levels) {
    std::size_t low = 0, high = levels.size() - 1;
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (value > (levels[middle] + levels[middle + 1]) / 2)
            low = middle + 1;
        else
            high = middle;
    }
    return static_cast<std::uint16_t>(low);
}

void nearestLevels(std::span<const float> values, std::span<const float> levels, std::uint16_t* places) {
    constexpr std::size_t kRun = 256;
    std::vector<float> bounds;
    for (std::size_t i = 0; i + 1 < levels.size(); ++i) bounds.push_back((levels[i] + levels[i + 1]) / 2);
    std::int32_t counts[kRun];
    for (std::size_t begin = 0; begin < values.size(); begin += kRun) {
        const std::size_t n = std::min(kRun, values.size() - begin);
        countBelow(values.data() + begin, static_cast<std::int64_t>(n), bounds.data(),
                   static_cast<std::int64_t>(bounds.size()), counts);
        for (std::size_t i = 0; i < n; ++i) places[begin + i] = static_cast<std::uint16_t>(counts[i]);
    }
}

}  // namespace tcompress::passes
