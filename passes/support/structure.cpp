#include "passes/support/structure.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "lib/support/check.h"

namespace tcompress::passes {

using analysis::AtomId;
using analysis::Axis;
using analysis::AxisStore;
using analysis::Site;
using analysis::TransformerView;

std::vector<std::int64_t> leafPositions(const AxisStore& store, const Axis& axis, AtomId leaf) {
    // One mask a bit of the position number, instead of one a position.
    const std::int64_t size = store.leafSize(leaf);
    const auto marked = [&](auto&& predicate) {
        std::vector<bool> keep(static_cast<std::size_t>(size));
        for (std::int64_t p = 0; p < size; ++p) keep[static_cast<std::size_t>(p)] = predicate(p);
        return store.mask(axis, {{store.representative(leaf), keep}});
    };
    const std::vector<bool> untouched = marked([](std::int64_t) { return false; });
    std::vector<std::int64_t> positions(untouched.size());
    for (std::size_t i = 0; i < positions.size(); ++i) positions[i] = untouched[i] ? -1 : 0;
    for (int bit = 0; (size - 1) >> bit != 0; ++bit) {
        const std::vector<bool> set = marked([bit](std::int64_t p) { return (p >> bit & 1) != 0; });
        for (std::size_t i = 0; i < positions.size(); ++i)
            if (!untouched[i] && set[i]) positions[i] |= std::int64_t{1} << bit;
    }
    return positions;
}

namespace {

const Axis& weightAxis(const TransformerView& view, const Site& site, std::size_t axis) {
    return view.axes->axes.at(site.weight).at(axis);
}

/// The weight as rows along `axis`: strides to walk one row, whatever the orientation.
struct WeightRows {
    std::vector<float> values;
    std::int64_t rows = 0, rowStride = 0, columns = 0, columnStride = 0;

    WeightRows(const Site& site, std::size_t rowAxis) {
        const Tensor& weight = *site.weight->constant();
        values = toFloat32(weight);
        const Shape& shape = weight.shape();
        const std::size_t columnAxis = rowAxis == site.inAxis ? site.outAxis : site.inAxis;
        rows = shape[rowAxis];
        columns = shape[columnAxis];
        rowStride = std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(rowAxis) + 1, shape.end(),
                                    std::int64_t{1}, std::multiplies<>());
        columnStride = std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(columnAxis) + 1,
                                       shape.end(), std::int64_t{1}, std::multiplies<>());
    }
    float at(std::int64_t row, std::int64_t column) const {
        return values[static_cast<std::size_t>(row * rowStride + column * columnStride)];
    }
    double squaredNorm(std::int64_t row) const {
        double sum = 0;
        for (std::int64_t c = 0; c < columns; ++c) sum += static_cast<double>(at(row, c)) * at(row, c);
        return sum;
    }
};

}  // namespace

std::string scoringRefusal(const Site& site) {
    const Tensor* weight = site.weight == nullptr ? nullptr : site.weight->constant();
    if (weight == nullptr || !isFloatingPoint(weight->dtype()))
        return fmt::format("'{}' has no float weights to score (quantized?): score the float model first",
                           site.name);
    if (weight->rank() != 2)
        return fmt::format("'{}' has weights of rank {}, a matrix is needed", site.name, weight->rank());
    return {};
}

std::vector<double> squaredWeights(const TransformerView& view, const Site& site, AtomId leaf) {
    std::vector<double> scores(static_cast<std::size_t>(view.axes->store->leafSize(leaf)));
    for (const std::size_t axis : {site.inAxis, site.outAxis}) {
        const auto positions = leafPositions(*view.axes->store, weightAxis(view, site, axis), leaf);
        if (std::all_of(positions.begin(), positions.end(), [](std::int64_t p) { return p < 0; })) continue;
        const WeightRows weight(site, axis);
        for (std::int64_t row = 0; row < weight.rows; ++row)
            if (const std::int64_t p = positions[static_cast<std::size_t>(row)]; p >= 0)
                scores[static_cast<std::size_t>(p)] += weight.squaredNorm(row);
    }
    return scores;
}

std::vector<double> outputContribution(const TransformerView& view, const Site& site, AtomId leaf,
                                       const calibration::ChannelStatistics& input) {
    const auto positions = leafPositions(*view.axes->store, weightAxis(view, site, site.inAxis), leaf);
    const WeightRows weight(site, site.inAxis);
    TCOMPRESS_CHECK(static_cast<std::int64_t>(input.secondMoment.size()) == weight.rows * weight.rows,
                    "second moments of another width than the site's input");
    std::vector<std::vector<std::int64_t>> channels(
        static_cast<std::size_t>(view.axes->store->leafSize(leaf)));
    for (std::int64_t row = 0; row < weight.rows; ++row)
        if (const std::int64_t p = positions[static_cast<std::size_t>(row)]; p >= 0)
            channels[static_cast<std::size_t>(p)].push_back(row);
    std::vector<double> scores(channels.size());
    for (std::size_t p = 0; p < channels.size(); ++p)
        for (const std::int64_t i : channels[p])
            for (const std::int64_t j : channels[p]) {
                double product = 0;
                for (std::int64_t c = 0; c < weight.columns; ++c)
                    product += static_cast<double>(weight.at(i, c)) * weight.at(j, c);
                scores[p] += product * input.secondMoment[static_cast<std::size_t>(i * weight.rows + j)];
            }
    return scores;
}

std::vector<double> activationTimesWeight(const TransformerView& view, const Site& site, AtomId leaf,
                                          const calibration::ChannelStatistics& input) {
    const auto positions = leafPositions(*view.axes->store, weightAxis(view, site, site.inAxis), leaf);
    const WeightRows weight(site, site.inAxis);
    TCOMPRESS_CHECK(static_cast<std::int64_t>(input.meanAbsolute.size()) == weight.rows,
                    "statistics of another width than the site's input");
    std::vector<double> scores(static_cast<std::size_t>(view.axes->store->leafSize(leaf)));
    for (std::int64_t row = 0; row < weight.rows; ++row)
        if (const std::int64_t p = positions[static_cast<std::size_t>(row)]; p >= 0)
            scores[static_cast<std::size_t>(p)] +=
                input.meanAbsolute[static_cast<std::size_t>(row)] * std::sqrt(weight.squaredNorm(row));
    return scores;
}

namespace {

std::vector<std::size_t> ascending(const std::vector<double>& scores) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
    return order;
}

std::int64_t toRemove(std::int64_t units, const Selection& selection) {
    const std::int64_t wanted =
        selection.count >= 0
            ? selection.count
            : static_cast<std::int64_t>(std::floor(selection.ratio * static_cast<double>(units) + 1e-9));
    return std::clamp<std::int64_t>(wanted, 0, units);
}

std::vector<bool> removeLowest(const std::vector<double>& scores, std::int64_t count) {
    std::vector<bool> keep(scores.size(), true);
    const std::vector<std::size_t> order = ascending(scores);
    for (std::int64_t i = 0; i < count; ++i) keep[order[static_cast<std::size_t>(i)]] = false;
    return keep;
}

}  // namespace

std::int64_t keptUnits(std::int64_t units, const Selection& selection) {
    const std::int64_t kept = std::max<std::int64_t>(1, units - toRemove(units, selection));
    return std::min(units, (kept + selection.multiple - 1) / selection.multiple * selection.multiple);
}

std::vector<std::vector<bool>> selectUnits(const std::vector<UnitGroup>& groups, const Selection& selection) {
    std::vector<std::vector<bool>> keep;
    if (selection.scope != Scope::global) {
        for (const UnitGroup& group : groups) {
            const std::int64_t units = static_cast<std::int64_t>(group.scores.size());
            keep.push_back(removeLowest(group.scores, units - keptUnits(units, selection)));
        }
        return keep;
    }
    struct Candidate {
        double share;
        std::size_t group, unit;
    };
    std::vector<Candidate> candidates;
    std::int64_t units = 0;
    for (std::size_t g = 0; g < groups.size(); ++g) {
        const std::vector<double>& scores = groups[g].scores;
        keep.emplace_back(scores.size(), true);
        units += static_cast<std::int64_t>(scores.size());
        const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
        const std::vector<std::size_t> order = ascending(scores);
        for (std::size_t i = 0; i + 1 < order.size(); ++i)  // the best of each group always stays
            candidates.push_back({sum > 0 ? scores[order[i]] / sum : 0.0, g, order[i]});
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.share < b.share; });
    const std::size_t count =
        std::min(candidates.size(), static_cast<std::size_t>(toRemove(units, selection)));
    for (std::size_t i = 0; i < count; ++i) keep[candidates[i].group][candidates[i].unit] = false;
    return keep;
}

}  // namespace tcompress::passes
