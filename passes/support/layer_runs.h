#pragma once
// Layers as stretches of the residual stream that can be cut out: neighbours that go together are one run, bridged
// by its input or by a linear map of it.

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lib/analysis/transformer_view.h"
#include "lib/exec/executor.h"
#include "lib/pipeline/pass.h"
#include "passes/support/refit.h"

namespace tcompress::passes {

/// What a layer is: the whole block, or one of its sublayers; branch: any sublayer.
enum class LayerPart { block, attention, feedForward, branch };

struct LayerSpan {
    std::string name;            ///< "layer 3", "attention 3", "feed-forward 3"
    ir::Value* input = nullptr;  ///< null: it does not begin and end on the residual stream
    ir::Value* output = nullptr;
    bool isDroppable() const { return input != nullptr && output != nullptr; }
};

std::vector<LayerSpan> layerSpans(const analysis::TransformerView& view, LayerPart part);

/// Values by name, so that a run means the same in a copy of the model.
struct LayerRun {
    std::vector<std::size_t> layers;
    std::vector<std::string> names;  ///< of the layers: "layer 1", "feed-forward 2"
    std::string name;                ///< "layer 1 and layer 2"
    std::string input, output;
    /// Takes the run's place: output = input · weight + bias, or input + bias where there is no weight. Nothing: the input itself does.
    std::optional<LinearLayer> patch;
};

/// The dropped spans, neighbours joined, in order.
std::vector<LayerRun> runsOf(const std::vector<LayerSpan>& spans, const std::set<std::size_t>& dropped);

/// Cuts a run out, its key-value cache outputs and the inputs that only it read included.
void cutOut(ir::Model& model, const LayerRun& run, const std::string& pass, pipeline::PassReport& report);

/// What a model without some layers and heads takes of the feeds of the whole: not the caches of layers that went, and as
/// many heads of the others' as its inputs declare.
exec::Feeds feedsLeft(const ir::Model& model, exec::Feeds feeds);

/// Float outputs of the graph that are no layer's key-value cache: what dropping layers should not change.
std::vector<std::string> comparableOutputs(const ir::Graph& graph, const std::vector<LayerSpan>& spans);

}  // namespace tcompress::passes
