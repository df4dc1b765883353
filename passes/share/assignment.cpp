#include "passes/share/assignment.h"

#include <limits>

#include "lib/support/check.h"

namespace tcompress::passes {

std::vector<std::size_t> bestAssignment(std::span<const double> gain, std::size_t size) {
    TCOMPRESS_CHECK(gain.size() == size * size, "a gain for every pair");
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    // Columns from 1; column 0 stands for the row that is being placed.
    constexpr std::size_t kNone = 0;
    std::vector<double> rowPotential(size + 1), columnPotential(size + 1);
    std::vector<std::size_t> rowOf(size + 1, kNone), before(size + 1);
    for (std::size_t row = 1; row <= size; ++row) {
        rowOf[0] = row;
        std::vector<double> slack(size + 1, kInfinity);
        std::vector<bool> isReached(size + 1);
        std::size_t column = 0;
        do {
            isReached[column] = true;
            const std::size_t current = rowOf[column];
            double least = kInfinity;
            std::size_t next = 0;
            for (std::size_t c = 1; c <= size; ++c) {
                if (isReached[c]) continue;
                const double reduced = -gain[(current - 1) * size + c - 1] - rowPotential[current] - columnPotential[c];
                if (reduced < slack[c]) {
                    slack[c] = reduced;
                    before[c] = column;
                }
                if (slack[c] < least) {
                    least = slack[c];
                    next = c;
                }
            }
            for (std::size_t c = 0; c <= size; ++c) {
                if (isReached[c]) {
                    rowPotential[rowOf[c]] += least;
                    columnPotential[c] -= least;
                } else {
                    slack[c] -= least;
                }
            }
            column = next;
        } while (rowOf[column] != kNone);
        for (; column != 0; column = before[column]) rowOf[column] = rowOf[before[column]];
    }
    std::vector<std::size_t> permutation(size);
    for (std::size_t c = 1; c <= size; ++c) permutation[rowOf[c] - 1] = c - 1;
    return permutation;
}

}  // namespace tcompress::passes
