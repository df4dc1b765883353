// Structural passes on models whose parts are made useless on purpose: those parts must be what goes, and
// nothing else may change.

#include <catch2/catch.hpp>

#include <cmath>
#include <filesystem>

#include "lib/data/dataset.h"
#include "lib/exec/executor.h"
#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "passes/support/structure.h"
#include "tests/support/make_pass.h"

using namespace tcompress;
using analysis::TransformerView;
using test::runPass;

namespace {

std::filesystem::path modelPath(const std::string& name) {
    return std::filesystem::path(TCOMPRESS_TEST_DATA) / "models" / name;
}

/// Zeroes the weights of `site` at one position of a leaf, on the axis that the site contracts.
void zeroInput(ir::Edit& edit, const TransformerView& view, std::size_t siteIndex, analysis::AtomId leaf,
               std::int64_t position) {
    const analysis::Site& site = view.sites[siteIndex];
    const auto positions =
        passes::leafPositions(*view.axes->store, view.axes->axes.at(site.weight)[site.inAxis], leaf);
    Tensor weight = *site.weight->constant();
    const auto values = weight.mutableData<float>();
    const std::int64_t columns = weight.shape()[1];
    for (std::int64_t i = 0; i < weight.size(); ++i) {
        const std::int64_t index = site.inAxis == 0 ? i / columns : i % columns;
        if (positions[static_cast<std::size_t>(index)] == position) values[static_cast<std::size_t>(i)] = 0;
    }
    edit.setConstant(site.weight, weight);
}

double largestDifference(const ir::Model& a, const ir::Model& b, const data::Dataset& data) {
    const auto outputs = [&](const ir::Model& model) {
        exec::Executor executor(model);
        return executor.run(data::fitToModel(data, model).rows(0, data.sampleCount()));
    };
    const auto left = outputs(a), right = outputs(b);
    REQUIRE(left.size() == right.size());
    double worst = 0;
    for (std::size_t i = 0; i < left.size(); ++i) {
        REQUIRE(left[i].shape() == right[i].shape());
        const auto x = toFloat32(left[i]), y = toFloat32(right[i]);
        for (std::size_t j = 0; j < x.size(); ++j)
            worst = std::max(worst, std::fabs(static_cast<double>(x[j]) - y[j]));
    }
    return worst;
}

data::Dataset samples(const ir::Model& model) {
    return data::syntheticDataset(model, 3, /*seed=*/7, {{"sequence", 9}, {"seq", 9}});
}

/// Zeroes what `position` of every attention layer's (or feed-forward layer's) unit leaf adds to the residual
/// stream.
ir::Model withUselessUnits(const ir::Model& original, bool heads, std::int64_t position) {
    ir::Model model = original.clone();
    const TransformerView view = analysis::recognise(model);
    ir::Edit edit(model, "test");
    if (heads) {
        for (const auto& layer : view.attention)
            zeroInput(edit, view, layer.o.front(), layer.groupLeaf, position);
    } else {
        for (const auto& layer : view.feedForward)
            zeroInput(edit, view, layer.down.front(), layer.widthLeaves.front(), position);
    }
    edit.commit();
    return model;
}

}  // namespace

TEST_CASE("a head that adds nothing goes first, and its removal changes nothing") {
    const std::string name =
        GENERATE("bert_tiny.onnx", "vit_digits.onnx", "gpt2_char.onnx", "llama_char.onnx");
    CAPTURE(name);
    const ir::Model model = withUselessUnits(ir::load(modelPath(name)), true, 1);
    const TransformerView before = analysis::recognise(model);
    const data::Dataset data = samples(model);
    const auto result =
        runPass(model, "remove-heads", "", R"({"count": 1, "importance": "output-norm"})", &data);
    const TransformerView after = analysis::recognise(result.model);

    REQUIRE(after.attention.size() == before.attention.size());
    for (std::size_t i = 0; i < after.attention.size(); ++i) {
        CHECK(after.attention[i].kvHeads == before.attention[i].kvHeads - 1);
        CHECK(after.attention[i].heads ==
              before.attention[i].heads / before.attention[i].kvHeads * after.attention[i].kvHeads);
        CHECK(after.attention[i].headDim == before.attention[i].headDim);
    }
    CHECK(result.report.changed.size() == before.attention.size());
    CHECK(result.model.constantBytes() < model.constantBytes());
    CHECK(largestDifference(model, result.model, data) < 2e-5);
}

TEST_CASE("a neuron that adds nothing goes first, and its removal changes nothing") {
    const std::string name = GENERATE("bert_tiny.onnx", "vit_digits.onnx", "gpt2_char.onnx",
                                      "llama_char.onnx", "t5_char_encoder.onnx");
    CAPTURE(name);
    const ir::Model model = withUselessUnits(ir::load(modelPath(name)), false, 5);
    const TransformerView before = analysis::recognise(model);
    const data::Dataset data = samples(model);
    const std::int64_t width = before.feedForward.front().width;
    const auto result = runPass(
        model, "prune", "neuron",
        R"({"importance": "activation", "multiple": 1, "width": )" + std::to_string(width - 1) + "}", &data);
    const TransformerView after = analysis::recognise(result.model);

    REQUIRE(after.feedForward.size() == before.feedForward.size());
    for (const auto& layer : after.feedForward) CHECK(layer.width == width - 1);
    CHECK(largestDifference(model, result.model, data) < 2e-5);
}

TEST_CASE("the weakest head by weights goes without data") {
    const ir::Model model = ir::load(modelPath("vit_digits.onnx"));
    const auto result = runPass(model, "remove-heads", "", R"({"ratio": 0.5})");
    for (const auto& layer : analysis::recognise(result.model).attention) CHECK(layer.heads == 2);
    CHECK(result.report.notes.front().find("L2 norm") != std::string::npos);
}

TEST_CASE("heads by number") {
    const ir::Model model = ir::load(modelPath("llama_char.onnx"));
    // 8 query heads share 2 key-value heads: four queries go together.
    const auto result = runPass(model, "remove-heads", "", R"({"heads": ["1:4-7"]})");
    const TransformerView after = analysis::recognise(result.model);
    CHECK(after.attention[0].heads == 8);
    CHECK(after.attention[1].heads == 4);
    CHECK(after.attention[1].kvHeads == 1);
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"heads": ["0:1"]})"),
                      Catch::Contains("share one key-value head"));
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"heads": ["0:8"]})"),
                      Catch::Contains("which has 8 heads"));
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"heads": ["0:0-7"]})"),
                      Catch::Contains("one must stay"));
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"heads": ["9:0"]})"),
                      Catch::Contains("layer 9"));
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"heads": ["x"]})"),
                      Catch::Contains("LAYER:HEAD"));
}

TEST_CASE("exactly one way to say which heads") {
    CHECK_THROWS_AS(test::makePass("remove-heads", "", R"({})"), ConfigError);
    CHECK_THROWS_AS(test::makePass("remove-heads", "", R"({"ratio": 0.5, "count": 1})"), ConfigError);
    CHECK_THROWS_AS(test::makePass("drop-layers", "", R"({"layers": [1], "count": 1})"), ConfigError);
    CHECK_THROWS_AS(test::makePass("drop-layers", "", R"({"count": 1, "ratio": 0.5})"), ConfigError);
    CHECK_THROWS_AS(test::makePass("drop-layers", "", R"({})"), ConfigError);
}

TEST_CASE("output-norm without data is refused with what to do") {
    const ir::Model model = ir::load(modelPath("vit_digits.onnx"));
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"ratio": 0.5, "importance": "output-norm"})"),
                      Catch::Contains("--calibration"));
}

TEST_CASE("a layer that changes nothing is the first to be dropped") {
    const std::string name = GENERATE("vit_digits.onnx", "gpt2_char.onnx", "llama_char.onnx");
    CAPTURE(name);
    ir::Model model = ir::load(modelPath(name));
    {
        const TransformerView view = analysis::recognise(model);
        ir::Edit edit(model, "test");
        const auto zero = [&](std::size_t site) {
            for (ir::Value* value : {view.sites[site].weight, view.sites[site].bias})
                if (value != nullptr)
                    edit.setConstant(value, Tensor(DType::float32, value->constant()->shape()));
        };
        for (const std::size_t layer : view.blocks[1].attention) zero(view.attention[layer].o.front());
        for (const std::size_t layer : view.blocks[1].feedForward) zero(view.feedForward[layer].down.front());
        edit.commit();
    }
    const std::size_t blocks = analysis::recognise(model).blocks.size();
    const data::Dataset data = samples(model);
    const auto result = runPass(model, "drop-layers", "", R"({"count": 1})", &data);
    CHECK(result.report.changed.front().site == "layer 1");
    CHECK(analysis::recognise(result.model).blocks.size() == blocks - 1);
    CHECK(largestDifference(model, result.model, data) < 2e-5);
}

TEST_CASE("a dropped layer takes its key-value cache along") {
    const ir::Model model = ir::load(modelPath("gpt2_char_kv.onnx"));
    const auto result = runPass(model, "drop-layers", "", R"({"layers": [1, 2]})");
    const auto has = [](const std::vector<ir::Value*>& values, const std::string& name) {
        return std::any_of(values.begin(), values.end(),
                           [&](const ir::Value* v) { return v->name() == name; });
    };
    for (const char* layer : {"0", "3"}) {
        CHECK(has(result.model.graph().inputs(), std::string("past_key_values.") + layer + ".key"));
        CHECK(has(result.model.graph().outputs(), std::string("present.") + layer + ".value"));
    }
    for (const char* layer : {"1", "2"}) {
        CHECK_FALSE(has(result.model.graph().inputs(), std::string("past_key_values.") + layer + ".key"));
        CHECK_FALSE(has(result.model.graph().outputs(), std::string("present.") + layer + ".value"));
    }
    CHECK(has(result.model.graph().outputs(), "logits"));
}

TEST_CASE("the last layer of an encoder keeps the output's name") {
    const ir::Model model = ir::load(modelPath("t5_char_encoder.onnx"));
    const auto result = runPass(model, "drop-layers", "", R"({"layers": [1]})");
    REQUIRE(result.model.graph().outputs().size() == 1);
    CHECK(result.model.graph().outputs().front()->name() == "last_hidden_state");
    CHECK(analysis::recognise(result.model).blocks.size() == 1);
}

TEST_CASE("one layer must stay, and numbers must exist") {
    const ir::Model model = ir::load(modelPath("t5_char_encoder.onnx"));
    CHECK_THROWS_WITH(runPass(model, "drop-layers", "", R"({"layers": [0, 1]})"),
                      Catch::Contains("one must stay"));
    CHECK_THROWS_WITH(runPass(model, "drop-layers", "", R"({"layers": [2]})"),
                      Catch::Contains("2 layers (0 to 1)"));
}
