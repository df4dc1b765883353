#include "passes/support/sparse_projection.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "lib/support/parallel.h"

namespace tcompress::passes {
namespace {

/// Clears the flags of the `count` smallest scores (none negative), of equal ones the first. `stays` is all set.
void dropSmallest(std::span<const float> scores, std::int64_t count, std::span<char> stays) {
    if (count <= 0) return;
    // Bits of numbers that are not negative order like the numbers: cells by their upper half are finer than a hundredth.
    const auto cellOf = [&](std::size_t i) { return std::bit_cast<std::uint32_t>(scores[i]) >> 16; };
    std::vector<std::int64_t> cells(std::size_t{1} << 16);
    for (std::size_t i = 0; i < scores.size(); ++i) ++cells[cellOf(i)];
    std::uint32_t cell = 0;
    std::int64_t below = 0;
    while (below + cells[cell] < count) below += cells[cell++];
    std::vector<std::pair<float, std::size_t>> inCell;
    for (std::size_t i = 0; i < scores.size(); ++i) {
        const std::uint32_t own = cellOf(i);
        if (own < cell) stays[i] = 0;
        if (own == cell) inCell.emplace_back(scores[i], i);
    }
    const auto end = inCell.begin() + (count - below);
    std::nth_element(inCell.begin(), end - 1, inCell.end());
    for (auto place = inCell.begin(); place != end; ++place) stays[place->second] = 0;
}

}  // namespace

SparseProjection::SparseProjection(const SparsePattern& pattern, double sparsity, std::int64_t inputs, std::int64_t outputs)
    : pattern_(pattern), inputs_(inputs), outputs_(outputs), stays_(static_cast<std::size_t>(inputs * outputs)) {
    if (pattern_.isGrouped()) return;
    blocks_.resize(stays_.size() / static_cast<std::size_t>(pattern.inputs * pattern.outputs));
    blockStays_.resize(blocks_.size());
    gone_ = static_cast<std::int64_t>(std::floor(sparsity * static_cast<double>(blocks_.size()) + 1e-9));
}

std::span<const char> SparseProjection::operator()(std::span<const float> squares) {
    std::fill(stays_.begin(), stays_.end(), 1);
    if (pattern_.isGrouped())
        chooseGrouped(squares);
    else if (pattern_.inputs == 1 && pattern_.outputs == 1)
        dropSmallest(squares, gone_, stays_);
    else
        chooseBlocks(squares);
    return stays_;
}

void SparseProjection::chooseGrouped(std::span<const float> squares) {
    constexpr std::int64_t kOutputsAtOnce = 16;
    parallelRanges(outputs_, kOutputsAtOnce, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::pair<float, std::int64_t>> group(static_cast<std::size_t>(pattern_.group));
        for (std::int64_t first = begin * inputs_; first < end * inputs_; first += pattern_.group) {
            for (std::int64_t i = 0; i < pattern_.group; ++i)
                group[static_cast<std::size_t>(i)] = {-squares[static_cast<std::size_t>(first + i)], first + i};
            std::nth_element(group.begin(), group.begin() + pattern_.keep, group.end());
            for (auto gone = group.begin() + pattern_.keep; gone != group.end(); ++gone)
                stays_[static_cast<std::size_t>(gone->second)] = 0;
        }
    });
}

void SparseProjection::chooseBlocks(std::span<const float> squares) {
    const std::int64_t across = inputs_ / pattern_.inputs;
    const auto blockOf = [&](std::size_t weight) {
        const auto place = static_cast<std::int64_t>(weight);
        return static_cast<std::size_t>(place / inputs_ / pattern_.outputs * across + place % inputs_ / pattern_.inputs);
    };
    std::fill(blocks_.begin(), blocks_.end(), 0.0F);
    for (std::size_t i = 0; i < squares.size(); ++i) blocks_[blockOf(i)] += squares[i];
    std::fill(blockStays_.begin(), blockStays_.end(), 1);
    dropSmallest(blocks_, gone_, blockStays_);
    for (std::size_t i = 0; i < stays_.size(); ++i) stays_[i] = blockStays_[blockOf(i)];
}

}  // namespace tcompress::passes
