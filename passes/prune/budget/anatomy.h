#pragma once
// What a budget is shared out over: the sublayers of a model, each with the numbers of units (heads or key-value
// groups, neurons) that it may keep, down to none.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "passes/drop_layers/layer_runs.h"
#include "passes/support/unit_removal.h"

namespace tcompress::passes {

/// Sublayers that lose the same units: one, or several that share their weights.
struct Part {
    UnitLayers layers;
    std::string name;      ///< what reports call it: the layer's output projection
    /// Parts of one shape cost the same with the same number of units: "attention 12 of [384, 384] …".
    std::string shape;
    std::int64_t units = 0;
    /// Numbers of units that it may keep, descending. The first is all; 0, the last where the sublayer begins and ends
    /// on the residual stream, is the sublayer dropped with a linear map in its place.
    std::vector<std::int64_t> keeps;
    /// Index into Anatomy::spans; none when it cannot be dropped.
    std::optional<std::size_t> span;

    UnitKind kind() const { return layers.layers.front().kind; }
    bool canGo() const { return span.has_value(); }
};

/// Units that each part keeps.
using Assignment = std::vector<std::int64_t>;

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

    Assignment whole() const;
    Assignment smallest() const;
    /// The stretches that an assignment drops, neighbours joined.
    std::vector<LayerRun> runs(const Assignment& assignment) const;
};

struct AnatomyOptions {
    std::int64_t neuronMultiple = 8;  ///< numbers of neurons are multiples of this
    bool dropSublayers = true;
    std::vector<std::string> targets, ignore;  ///< patterns over output projections
};

/// Layers that can lose nothing become skipped sites.
Anatomy dissect(const analysis::TransformerView& view, const AnatomyOptions& options, pipeline::PassReport& report);

/// The model in the shapes of an assignment, for costs alone: the first units stay and linear maps are zero. `anatomy`
/// is of a model with the same graph.
ir::Model shaped(const ir::Model& model, const Anatomy& anatomy, const Assignment& assignment);

}  // namespace tcompress::passes
