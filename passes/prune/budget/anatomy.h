#pragma once
// What a budget is shared out over: the sublayers of a model, each with what it may become: fewer units (heads or key-value
// groups, neurons), down to none, or all of them with every matrix as a product of two smaller ones.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "passes/support/layer_runs.h"
#include "passes/support/unit_removal.h"

namespace tcompress::passes {

/// What a part becomes: so many units, or all of them with each matrix as a product of two that hold this share of its
/// parameters.
struct PartChoice {
    std::int64_t units = 0;
    std::int64_t rankPercent = 100;  ///< 100: matrices stay whole

    // NOLINTNEXTLINE(google-explicit-constructor): a number of units is the usual choice
    PartChoice(std::int64_t unitCount, std::int64_t percent = 100) : units(unitCount), rankPercent(percent) {}
    bool isRanks() const { return rankPercent < 100; }
    bool isDropped() const { return units == 0; }
    friend bool operator==(const PartChoice&, const PartChoice&) = default;
};

/// The rank at which two factors hold about this share of a matrix [m, n]'s parameters, a multiple of `multiple`.
std::int64_t rankAt(std::int64_t percent, std::int64_t m, std::int64_t n, std::int64_t multiple);

/// Sublayers that lose the same units: one, or several that share their weights.
struct Part {
    UnitLayers layers;
    std::string name;      ///< what reports call it: the layer's output projection
    /// Parts of one shape cost the same with the same number of units: "attention 12 of [384, 384] …".
    std::string shape;
    std::int64_t units = 0;
    /// What it may become: all units, fewer, descending, ranks, descending, and last, where the sublayer begins and ends on
    /// the residual stream, nothing but a linear map in its place.
    std::vector<PartChoice> choices;
    /// Names of its matrices' constants, where all of them can become products.
    std::vector<std::string> matrices;
    /// Index into Anatomy::spans; none when it cannot be dropped.
    std::optional<std::size_t> span;

    UnitKind kind() const { return layers.layers.front().kind; }
    bool canGo() const { return span.has_value(); }
    /// Numbers of units between all and none, descending.
    std::vector<std::int64_t> fewerUnits() const;
    /// Shares of the choices that are ranks, descending.
    std::vector<std::int64_t> rankPercents() const;
    std::size_t indexOf(const PartChoice& choice) const;
};

/// What each part becomes.
using Assignment = std::vector<PartChoice>;

/// Parts of one block of the model, or one part that several blocks share.
struct PartGroup {
    std::vector<std::size_t> parts;
    const ir::Value* input = nullptr;  ///< the residual stream going in; null where there is no single one
    int block = -1;                    ///< of the view; −1: several
    /// Whether the block as a whole can go, one linear map in its place.
    bool canGo = false;

    bool isDropped(const Assignment& assignment) const;
};

struct Anatomy {
    std::vector<Part> parts;
    std::vector<PartGroup> blocks;  ///< those of several blocks first, then in the order of the graph
    std::vector<LayerSpan> spans;  ///< sublayers in the order of the graph

    std::int64_t multiple = 8;     ///< of ranks

    Assignment whole() const;
    Assignment smallest() const;
    /// The stretches that an assignment drops, neighbours joined.
    std::vector<LayerRun> runs(const Assignment& assignment) const;
};

struct AnatomyOptions {
    std::int64_t multiple = 8;  ///< numbers of neurons, and ranks, are multiples of this
    bool dropSublayers = true;
    bool ranks = true;
    std::vector<std::string> targets, ignore;  ///< patterns over output projections
};

/// Layers that can lose nothing become skipped sites.
Anatomy dissect(const analysis::TransformerView& view, const AnatomyOptions& options, pipeline::PassReport& report);

/// The model in the shapes of an assignment, for costs alone: the first units stay and linear maps are zero. `anatomy`
/// is of a model with the same graph.
ir::Model shaped(const ir::Model& model, const Anatomy& anatomy, const Assignment& assignment);

}  // namespace tcompress::passes
