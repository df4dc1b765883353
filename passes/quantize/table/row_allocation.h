#pragma once
// Which rows of a table get how many bits: the cheapest formats for rows that are hardly used, exact within a
// budget.
//
// Minimised is Σ qᵣ·ε(f(r)), qᵣ what row r's relative squared error costs, ε(f) that error in format f,
// subject to Σ bytes(f(r)) ≤ budget. For a Lagrange multiplier λ each row takes the format with the smallest
// qᵣ·ε + λ·bytes, so that with rows sorted by q the formats are intervals, each boundary at q = λ·Δbytes /
// Δε; λ is bisected for every choice of at most `mostFormats` formats.

#include <cstdint>
#include <span>
#include <vector>

namespace tcompress::passes {

struct RowFormat {
    double bytesPerRow = 0;
    double fixedBytes = 0;  ///< once, when any row uses the format (a codebook)
    double error = 0;       ///< mean squared error relative to a row's energy
};

/// Rows begin … end − 1 of the sorted rows use the format.
struct RowTier {
    std::size_t format = 0;
    std::int64_t begin = 0;
    std::int64_t end = 0;
};

struct RowBudget {
    double bytes = 0;
    double bytesOfSeveralTables = 0;  ///< what more than one tier costs besides (an index map)
    std::size_t mostFormats = 3;
};

/// `costs`: q in descending order. Tiers in the order of the rows, without empty ones; none when no format
/// fits the budget.
std::vector<RowTier> allocateRows(std::span<const double> costs, std::span<const RowFormat> formats,
                                  const RowBudget& budget);

}  // namespace tcompress::passes
