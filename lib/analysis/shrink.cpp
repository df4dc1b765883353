#include "lib/analysis/shrink.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "lib/analysis/leaf_guard.h"
#include "lib/analysis/shrink_plan.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace tcompress::analysis {

namespace {

bool removesSomething(const std::vector<bool>& mask) {
    return std::count(mask.begin(), mask.end(), false) > 0;
}

/// Leaves that lose positions: others need not be looked at.
KeepMasks effective(const KeepMasks& keep) {
    KeepMasks out;
    for (const auto& [leaf, mask] : keep) {
        if (removesSomething(mask)) out.emplace(leaf, mask);
    }
    return out;
}

/// The dimensions that are not what was predicted, a few of them. Values that the edit removed or added are
/// not compared.
std::vector<std::string> differences(const ir::Model& before, const ir::Model& after, const ShrinkPlan& plan,
                                     const ModelAxes& axes, const KeepMasks& keep) {
    std::vector<std::string> found;
    const ConcreteShapes probe = concretise(after);
    const ProbeSizes other = alternativeSizes(before);
    const ConcreteShapes otherBefore = concretise(before, other);
    const ConcreteShapes otherAfter = concretise(after, other);
    for (const ir::Value* value : before.graph().values()) {
        const std::vector<Axis>* own = axes.of(value);
        const ir::Value* now = after.graph().find(value->name());
        if (own == nullptr || now == nullptr) continue;
        const Shape predicted = *plan.predictedShape(*value);
        const std::optional<Shape> actual = probe.shape(*now);
        if (actual != predicted) {
            found.push_back(fmt::format("'{}' has shape {}, {} was predicted", value->name(),
                                        actual ? toString(*actual) : "unknown", toString(predicted)));
            continue;
        }
        // At other input sizes a cut axis keeps the same share.
        const std::optional<Shape> wholeOther = otherBefore.shape(*value);
        const std::optional<Shape> cutOther = otherAfter.shape(*now);
        if (!wholeOther) continue;
        for (std::size_t k = 0; k < own->size(); ++k) {
            const bool touched = axes.store->touches((*own)[k], keep);
            const bool same = cutOther && (touched ? (*cutOther)[k] * axes.store->size((*own)[k]) ==
                                                         (*wholeOther)[k] * predicted[k]
                                                   : (*cutOther)[k] == (*wholeOther)[k]);
            if (same) continue;
            found.push_back(fmt::format("'{}' has another dimension {} than predicted for other input sizes",
                                        value->name(), k));
            break;
        }
    }
    return found;
}

}  // namespace

std::vector<std::string> shrinkRefusals(const ir::Model& model, const ModelAxes& axes,
                                        const KeepMasks& keep, NormalizedAxes normalized) {
    std::set<std::string> reasons;
    const LeafGuard guard(model, axes, normalized);
    for (const auto& [leaf, mask] : effective(keep)) {
        if (std::count(mask.begin(), mask.end(), true) == 0)
            reasons.insert("nothing would be left of an axis");
        if (static_cast<std::int64_t>(mask.size()) != axes.store->leafSize(leaf)) {
            reasons.insert(
                fmt::format("a mask of {} for an axis of {}", mask.size(), axes.store->leafSize(leaf)));
        }
        const std::set<std::string> own = guard.refusals(leaf);
        reasons.insert(own.begin(), own.end());
    }
    return {reasons.begin(), reasons.end()};
}

ShrinkReport shrink(ir::Model& model, const ModelAxes& axes, const KeepMasks& keep, const std::string& pass,
                    NormalizedAxes normalized) {
    const std::vector<std::string> reasons = shrinkRefusals(model, axes, keep, normalized);
    if (!reasons.empty()) {
        throw PassError(
            fmt::format("{}: these positions cannot be removed: {}", pass, fmt::join(reasons, "; ")));
    }
    const KeepMasks cuts = effective(keep);
    if (cuts.empty()) return {};
    ir::Model trial = model.clone();
    ShrinkPlan plan(model, axes, cuts, trial, pass);
    ShrinkReport report = plan.apply();
    ir::inferTypes(trial);
    const std::vector<std::string> wrong = differences(model, trial, plan, axes, cuts);
    if (!wrong.empty()) {
        throw PassError(fmt::format("{}: the cut model would not fit together, nothing was changed: {}{}",
                                    pass, wrong.front(),
                                    wrong.size() > 1 ? fmt::format(" (and {} more)", wrong.size() - 1) : ""));
    }
    model = std::move(trial);
    return report;
}

}  // namespace tcompress::analysis
