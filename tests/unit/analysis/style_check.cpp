#include "tests/unit/analysis/style_check.h"

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "lib/exec/executor.h"
#include "tests/unit/analysis/cut_check.h"

namespace tcompress::analysis {

std::string heads(GraphText& g, const std::string& x, const std::string& name, const TinyOptions& o,
                  std::int64_t count) {
    const std::string rows = g.linear(x, name, o.hidden, count * o.headDim);
    return g.transpose(g.reshape(rows, {0, 0, count, o.headDim}), "0, 2, 1, 3");
}

std::string layerName(const char* name, int layer) { return fmt::format("{}{}", name, layer); }

void checkStyle(const Style& style, const ir::Model& model, NormPlacement placement) {
    const TransformerView view = recognise(model);
    INFO(style.name);
    for (const Unrecognised& missing : view.notRecognised)
        UNSCOPED_INFO(missing.place << ": " << missing.reason);
    REQUIRE(view.blocks.size() == 2);
    CHECK(view.hiddenSize == 16);
    for (const AttentionLayer& layer : view.attention) {
        CHECK(layer.heads == 4);
        CHECK(layer.kvHeads == style.kvHeads);
        CHECK(layer.headDim == 4);
        CHECK(layer.norm == placement);
        CHECK_FALSE(layer.cross);
        CHECK(layer.refusals.empty());
    }
    REQUIRE(view.feedForward.size() == 2);
    for (const FeedForward& layer : view.feedForward) {
        CHECK(layer.width == 24);
        CHECK(layer.gated == style.gated);
        CHECK(layer.activation == style.activation);
        CHECK(layer.norm == placement);
        CHECK(layer.refusals.empty());
    }
    CHECK(view.blocks[0].output == view.blocks[1].input);
    Random random(11, style.name);
    const KeepMasks keep = randomHalf(view, random, true, true);
    REQUIRE_FALSE(keep.empty());
    if (!exec::unsupportedOperators(model).empty()) {
        WARN(style.name << ": the executor cannot run it, the cut is only checked by its shapes");
        ir::Model cut = model.clone();
        shrink(cut, analyseAxes(cut), keep, "test");
        return;
    }
    const CutResult result = compareCut(model, view, keep);
    CHECK(result.difference < 1e-5);
    CHECK(result.effect > 1e-3);
}

}  // namespace tcompress::analysis
