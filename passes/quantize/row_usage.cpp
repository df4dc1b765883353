#include "passes/quantize/row_usage.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tcompress::passes {
namespace {

struct Smoothing {
    double reach = 1;        ///< ρ
    double pseudoCount = 1;  ///< m
};

constexpr double kReaches[] = {1.1, 1.3, 2.0, 4.0, 1e9};
/// Keeps rows far from all that was seen from having no probability at all.
constexpr double kSmallestMean = 1e-6;

std::vector<double> usage(const std::vector<double>& counts, Smoothing smoothing) {
    const auto n = static_cast<double>(counts.size());
    std::vector<double> before(counts.size() + 1, 0.0);
    std::partial_sum(counts.begin(), counts.end(), before.begin() + 1);
    std::vector<double> prior;
    double priorSum = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const double rank = static_cast<double>(i) + 1;
        const auto begin = static_cast<std::size_t>(std::floor(rank / smoothing.reach));
        const auto end = static_cast<std::size_t>(std::min(n, std::ceil(rank * smoothing.reach)));
        prior.push_back((before[end] - before[begin]) / static_cast<double>(end - begin) + kSmallestMean);
        priorSum += prior.back();
    }
    const double all = before.back() + smoothing.pseudoCount;
    std::vector<double> result;
    for (std::size_t i = 0; i < counts.size(); ++i)
        result.push_back((counts[i] + smoothing.pseudoCount * prior[i] / priorSum) / all);
    return result;
}

}  // namespace

std::vector<double> smoothedUsage(const std::vector<double>& counts, const std::vector<double>& heldBack) {
    Smoothing best;
    double bestLikelihood = -HUGE_VAL;
    for (const double reach : kReaches)
        for (double pseudoCount = 1; pseudoCount < 2e6; pseudoCount *= 4) {
            const std::vector<double> tried = usage(counts, {reach, pseudoCount});
            double likelihood = 0;
            for (std::size_t i = 0; i < tried.size(); ++i) likelihood += heldBack[i] * std::log(tried[i]);
            if (likelihood > bestLikelihood) {
                bestLikelihood = likelihood;
                best = {reach, pseudoCount};
            }
        }
    std::vector<double> all = counts;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] += heldBack[i];
    return usage(all, best);
}

}  // namespace tcompress::passes
