// Removal with compensation leaves a model whose removed units are read by zeros. Cutting them out must then change
// nothing, on every architecture: fused QKV, grouped queries, com.microsoft's fused attention, key-value caches,
// cross-attention.

#include <catch2/catch.hpp>
#include <map>

#include "lib/analysis/shrink.h"
#include "lib/data/split.h"
#include "passes/support/compensation.h"
#include "passes/support/structure.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

const std::map<std::string, std::int64_t> kSizes = {
    {"sequence", 9}, {"seq", 9}, {"total", 9}, {"total_sequence", 9}};

/// Outputs at inputs that both models take: random, caches empty.
std::vector<Tensor> outputsOf(const ir::Model& model) {
    const data::Dataset inputs = data::syntheticDataset(model, 3, /*seed=*/11, kSizes);
    const auto rows = data::fitToModel(inputs, model).rows(0, 3);
    return test::outputsOf(model, {rows.begin(), rows.end()});
}

}  // namespace

TEST_CASE("what compensation left is the same masked and cut") {
    const char* const name = GENERATE("bert_tiny", "bert_tiny_fused", "vit_digits", "gpt2_char", "gpt2_char_kv",
                                      "llama_char", "llama_char_kv", "t5_char_encoder", "t5_char_decoder");
    const Refit refit = GENERATE(Refit::readers, Refit::all);
    CAPTURE(name);
    ir::Model model = test::dataModel(name);
    const analysis::TransformerView view = analysis::recognise(model);
    pipeline::PassReport report;
    std::vector<UnitLayer> layers = attentionUnits(view);
    for (UnitLayer& layer : feedForwardUnits(view)) layers.push_back(std::move(layer));
    const std::vector<UnitLayers> groups = targetLayers(view, layers, {}, {}, report);
    REQUIRE(groups.size() >= 2);
    const data::Split samples = data::split(
        data::syntheticDataset(model, 12, /*seed=*/5, kSizes), kHeldBackShare);
    std::vector<UnitTask> tasks;
    for (const UnitLayers& group : groups) {
        const std::int64_t units = view.axes->store->leafSize(group.leaf);
        tasks.push_back({group, keptUnits(units, {-1, 0.5, Scope::layer, 1}), {}, {}});
    }
    const ir::Model reference = model.clone();
    removeCompensated(model, reference, view, tasks, {calibration::MomentOrder::first, activationTimesWeight}, samples,
                      silentProgress(), report, refit);
    const analysis::KeepMasks masks = keepMasks(tasks, "nothing goes", report);
    REQUIRE(masks.size() == groups.size());
    for (const UnitTask& task : tasks) CHECK(task.refusal.empty());
    ir::Model cut = model.clone();
    analysis::shrink(cut, *analysis::recognise(cut).axes, masks, "test");
    CHECK(cut.constantBytes() < model.constantBytes());
    const std::vector<Tensor> masked = outputsOf(model), removed = outputsOf(cut);
    REQUIRE(masked.size() == removed.size());
    std::vector<Tensor> a, b;
    for (std::size_t i = 0; i < masked.size(); ++i)
        // Caches became smaller; what they hold shows in the other outputs.
        if (masked[i].shape() == removed[i].shape()) {
            a.push_back(removed[i]);
            b.push_back(masked[i]);
        }
    REQUIRE_FALSE(a.empty());
    CHECK(test::largestDifference(a, b) < 2e-5);
}
