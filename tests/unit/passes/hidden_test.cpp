// Channels of the residual stream that go: the cut against the whole model with normalizations that leave the channels out,
// and what fitting again is worth.

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/analysis/shrink.h"
#include "lib/ir/edit.h"
#include "lib/ir/validate.h"
#include "passes/support/affine_refit.h"
#include "lib/ir/emit.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using analysis::AtomId;
using analysis::TransformerView;
using ir::emit;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

AtomId residualLeaf(const TransformerView& view) {
    const analysis::Site& down = view.sites[view.feedForward.front().down.front()];
    return view.axes->store->leaves(view.axes->axes.at(down.weight).at(down.outAxis)).front();
}

Tensor floats(const std::vector<float>& values) {
    return Tensor::of<float>({static_cast<std::int64_t>(values.size())}, std::span<const float>(values));
}

/// The model whose normalizations take their statistics over the channels of the mask only, and give 0 for the others.
ir::Model withMaskedNorms(const ir::Model& original, const TransformerView& view, AtomId leaf, const std::vector<bool>& mask) {
    ir::Model model = original.clone();
    const auto channels = static_cast<std::int64_t>(mask.size());
    const auto kept = static_cast<float>(std::count(mask.begin(), mask.end(), true));
    std::vector<float> ones(mask.size()), weights(mask.size());
    for (std::size_t c = 0; c < mask.size(); ++c) {
        ones[c] = mask[c] ? 1.0F : 0.0F;
        weights[c] = ones[c] * static_cast<float>(channels) / kept;
    }
    ir::Edit edit(model, "test");
    ir::Value* const zeroOne = edit.addInitializer("mask", floats(ones));
    ir::Value* const share = edit.addInitializer("share", floats(weights));
    const std::vector<ir::Attribute> last = {{"axes", std::vector<std::int64_t>{-1}}};
    for (const auto& node : model.graph().nodes()) {
        if (node->is("LayerNormalization")) {
            ir::Value* const mean = emit(edit, "ReduceMean", {emit(edit, "Mul", {node->input(0), share})}, last);
            ir::Value* const centred = emit(edit, "Sub", {node->input(0), mean});
            ir::Value* const squares = emit(edit, "Mul", {centred, centred});
            ir::Value* const variance = emit(edit, "ReduceMean", {emit(edit, "Mul", {squares, share})}, last);
            ir::Value* const epsilon = edit.addInitializer("epsilon", Tensor::of<float>({1}, {node->attributeFloat("epsilon", 1e-5F)}));
            ir::Value* const deviation = emit(edit, "Sqrt", {emit(edit, "Add", {variance, epsilon})});
            ir::Value* const scaled = emit(edit, "Mul", {emit(edit, "Div", {centred, deviation}), node->input(1)});
            ir::Value* const result = emit(edit, "Mul", {emit(edit, "Add", {scaled, node->input(2)}), zeroOne});
            edit.replaceAllUses(node->output(), result);
        } else if (node->is("ReduceMean") && node->input(0)->shape() && node->input(0)->shape()->back() == channels &&
                   (node->attributeInts("axes") == std::vector<std::int64_t>{-1} ||
                    node->attributeInts("axes") == std::vector<std::int64_t>{2})) {
            edit.replaceInput(node.get(), 0, emit(edit, "Mul", {node->input(0), share}));
        }
    }
    for (const passes::AffineSite& site : passes::affineSites(original, *view.axes, leaf)) {
        if (site.gainNode->is("LayerNormalization")) continue;
        const auto masked = [&](const ir::Value* value) {
            Tensor tensor = *value->constant();
            for (std::size_t c = 0; c < mask.size(); ++c) tensor.mutableData<float>()[c] *= ones[c];
            edit.setConstant(model.graph().find(value->name()), tensor);
        };
        masked(site.gainNode->input(site.gainSlot));
        if (site.biasNode != nullptr) masked(site.biasNode->input(site.biasSlot));
    }
    edit.commit();
    return model;
}

}  // namespace

TEST_CASE("a stream with fewer channels is one whose normalizations leave the others out") {
    const std::string name = GENERATE("vit_mnist5k", "vit_digits", "gpt2_char", "llama_char", "t5_char_decoder");
    CAPTURE(name);
    ir::Model model = test::dataModel(name);
    analysis::unshareVectors(model);
    const TransformerView view = analysis::recognise(model);
    const AtomId leaf = residualLeaf(view);
    std::vector<bool> mask(static_cast<std::size_t>(view.axes->store->leafSize(leaf)), true);
    for (std::size_t c = 0; c < mask.size(); ++c) mask[c] = c % 4 != 1;
    CHECK_THROWS_WITH(analysis::shrink(model, *view.axes, {{leaf, mask}}, "test"), Catch::Contains("over it"));
    const ir::Model masked = withMaskedNorms(model, view, leaf, mask);
    ir::Model cut = model.clone();
    analysis::shrink(cut, *analysis::recognise(cut).axes, {{leaf, mask}}, "test", analysis::NormalizedAxes::cut);
    ir::validateStructure(cut);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(cut, feeds), test::outputsOf(masked, feeds)) < 2e-5);
    CHECK(test::largestDifference(test::outputsOf(cut, feeds), test::outputsOf(model, feeds)) > 1e-2);
}

TEST_CASE("fitting what reads the stream again keeps outputs nearer") {
    const std::string name = GENERATE("vit_mnist5k", "gpt2_char", "llama_char");
    CAPTURE(name);
    const std::string file = name == "vit_mnist5k" ? "mnist5k_calibration" : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 24), other = samplesOf(file, 64, 96);
    const auto with = runPass(model, "prune", "hidden", R"({"sparsity": 0.25})", &fit);
    const auto without = runPass(model, "prune", "hidden", R"({"sparsity": 0.25, "compensate": false})", &fit);
    ir::validateStructure(with.model);
    CHECK(analysis::recognise(with.model).hiddenSize == analysis::recognise(model).hiddenSize * 3 / 4);
    CHECK(with.model.constantBytes() < model.constantBytes());
    CHECK(outputError(model, with.model, other) < 0.5 * outputError(model, without.model, other));
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(with.model, feeds), test::runtimeOutputsOf(with.model, feeds)) < 1e-3);
}

TEST_CASE("layers whose matrices are products of two write to one stream all the same") {
    const ir::Model model = runPass(test::dataModel("vit_digits"), "low-rank", "svd", R"({"rank_ratio": 0.5})").model;
    const data::Dataset samples = samplesOf("digits_validation", 0, 16);
    for (const char* method : {"rms", "fold"}) {
        const auto [exact, report] = runPass(model, "norm", method, "{}");
        CAPTURE(method);
        CHECK_FALSE(report.changed.empty());
        CHECK(outputError(model, exact, samples) < 1e-8);
    }
    const auto [narrow, report] = runPass(model, "prune", "hidden", R"({"sparsity": 0.25, "multiple": 1})");
    ir::validateStructure(narrow);
    CHECK(analysis::recognise(narrow).hiddenSize == 36);
    CHECK(narrow.constantBytes() < model.constantBytes());
    CHECK(outputError(model, narrow, samples) < 1);
}

TEST_CASE("a stream that leaves the model stays whole") {
    const ir::Model model = test::dataModel("bert_tiny");
    const auto [same, report] = runPass(model, "prune", "hidden", "{}");
    CHECK(report.changed.empty());
    REQUIRE(test::skippedSite(report, "residual stream") != nullptr);
    CHECK(test::skippedSite(report, "residual stream")->reason.find("visible in the graph output 'last_hidden_state'") != std::string::npos);
    CHECK(same.constantBytes() == model.constantBytes());
}
