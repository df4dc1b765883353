#pragma once
// What structural passes share: units (heads, key-value groups, FFN neurons) as positions of a leaf, how
// important each is, and which stay.

#include <cstdint>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/calibration/channel_statistics.h"

namespace tcompress::passes {

/// For each index of `axis`, which position of `leaf` it belongs to; −1 where the axis does not carry the
/// leaf.
std::vector<std::int64_t> leafPositions(const analysis::AxisStore& store, const analysis::Axis& axis,
                                        analysis::AtomId leaf);

/// Sum over the weight's elements of each leaf position of the squared value, in double. The site's weight
/// must be a float constant (see floatWeight).
std::vector<double> squaredWeights(const analysis::TransformerView& view, const analysis::Site& site,
                                   analysis::AtomId leaf);

/// Mean square over calibration rows of what each leaf position adds to the output of a site that consumes
/// it: trace(W_pᵀ E[x_p x_pᵀ] W_p) with x_p the site's input channels of position p and W_p their weights.
/// Needs second moments.
std::vector<double> outputContribution(const analysis::TransformerView& view, const analysis::Site& site,
                                       analysis::AtomId leaf, const calibration::ChannelStatistics& input);

/// Mean over calibration rows of |x| times the L2 norm of the weights that read it, summed over a position's
/// channels.
std::vector<double> activationTimesWeight(const analysis::TransformerView& view, const analysis::Site& site,
                                          analysis::AtomId leaf, const calibration::ChannelStatistics& input);

/// Why the site's weights cannot be scored ("its weights are int8"); empty when they are a float constant.
std::string scoringRefusal(const analysis::Site& site);

/// Units of one layer that can go one by one.
struct UnitGroup {
    std::string site;  ///< what reports call it
    std::vector<double> scores;
};

/// automatic: with compensation, whichever of the two, or of what lies between, costs the outputs least; else layer.
enum class Scope { layer, global, automatic };

struct Selection {
    std::int64_t count = -1;  ///< units to remove in each group (layer) or in all (global); −1: use the ratio
    double ratio = 0;         ///< share of the units to remove
    Scope scope = Scope::layer;
    std::int64_t multiple = 1;  ///< what stays is rounded up to a multiple of this (layer scope)
};

/// How many of `units` stay in layer scope.
std::int64_t keptUnits(std::int64_t units, const Selection& selection);

/// Which units stay. The lowest scores go, ties by index; each group keeps at least one unit. Across groups
/// (global scope) scores are compared as shares of their group's sum, so that layers of different magnitude
/// compete fairly.
std::vector<std::vector<bool>> selectUnits(const std::vector<UnitGroup>& groups, const Selection& selection);

}  // namespace tcompress::passes
