// Linear maps in the place of layers, and the choice of layers by the model's outputs.

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/data/split.h"
#include "lib/ir/edit.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

/// A block whose attention adds nothing.
ir::Model withIdleAttention(const ir::Model& original, std::size_t block) {
    ir::Model model = original.clone();
    const analysis::TransformerView view = analysis::recognise(model);
    ir::Edit edit(model, "test");
    const auto zero = [&](ir::Value* value) {
        if (value != nullptr) edit.setConstant(value, Tensor(DType::float32, value->constant()->shape()));
    };
    for (const std::size_t layer : view.blocks[block].attention) {
        zero(view.sites[view.attention[layer].o.front()].weight);
        zero(view.sites[view.attention[layer].o.front()].bias);
    }
    edit.commit();
    return model;
}

}  // namespace

TEST_CASE("a linear map takes a layer's place and the outputs stay nearer") {
    const std::string name = GENERATE("vit_digits", "vit_mnist5k", "gpt2_char", "llama_char", "t5_char_encoder");
    CAPTURE(name);
    const std::string file = name == "vit_digits"    ? "digits_calibration"
                             : name == "vit_mnist5k" ? "mnist5k_calibration"
                             : name == "t5_char_encoder" ? "devowel_calibration"
                                                         : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 64), other = samplesOf(file, 64, 96);
    const auto with = runPass(model, "drop-layers", "", R"({"count": 1})", &fit);
    const auto without = runPass(model, "drop-layers", "", R"({"count": 1, "patch": false})", &fit);
    const auto blocks = analysis::recognise(model).blocks.size();
    CHECK(analysis::recognise(without.model).blocks.size() == blocks - 1);
    REQUIRE(with.report.changed.size() == 1);
    CHECK(with.report.changed[0].change.find("linear map") != std::string::npos);
    CHECK(with.model.constantBytes() < model.constantBytes());
    CHECK(outputError(model, with.model, other) < 0.8 * outputError(model, without.model, other));
}

TEST_CASE("the layer whose loss the outputs show least is dropped, whatever its own input and output say") {
    const ir::Model model = withIdleAttention(test::dataModel("vit_digits"), 2);
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    const auto chosen = runPass(model, "drop-layers", "", R"({"count": 1, "patch": false})", &samples);
    double least = 1e30;
    std::string best;
    for (int layer = 0; layer < 4; ++layer) {
        const auto one = runPass(model, "drop-layers", "",
                                 R"({"patch": false, "layers": [)" + std::to_string(layer) + "]}", &samples);
        // Judged like the pass: on held-back samples.
        const double error = outputError(model, one.model, data::split(samples, 0.25).heldBack);
        if (error < least) {
            least = error;
            best = "layer " + std::to_string(layer);
        }
    }
    CHECK(chosen.report.changed.front().site == best);
}

TEST_CASE("neighbours that go together get one map, and a patched model runs in ONNX Runtime") {
    const ir::Model model = test::dataModel("gpt2_char");
    const data::Dataset samples = samplesOf("fortunes_char_calibration", 0, 32);
    const auto result = runPass(model, "drop-layers", "", R"({"layers": [1, 2]})", &samples);
    CHECK(result.report.changed.size() == 2);
    CHECK(analysis::recognise(result.model).blocks.size() == analysis::recognise(model).blocks.size() - 2);
    std::size_t patches = 0;
    for (const ir::Value* value : result.model.graph().initializers())
        patches += value->name().ends_with("_patch") ? 1 : 0;
    CHECK(patches == 1);
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(result.model);
    CHECK(test::largestDifference(test::outputsOf(result.model, feeds),
                                  test::runtimeOutputsOf(result.model, feeds)) < 1e-4);
}

TEST_CASE("layers whose mask goes with the last of them are compared on the same rows") {
    const ir::Model decoder = test::dataModel("t5_char_decoder");
    const data::Dataset samples = test::behindEncoder(samplesOf("devowel_calibration", 0, 12));
    // The last cross-attention takes the encoder's mask along, in trials too.
    const ir::Model once = runPass(decoder, "drop-layers", "", R"({"count": 1, "part": "attention"})", &samples).model;
    const auto [twice, report] = runPass(once, "drop-layers", "", R"({"count": 1, "part": "attention"})", &samples);
    CHECK(report.changed.size() == 1);
    CHECK(analysis::recognise(twice).attention.size() == 2);
}

TEST_CASE("a sublayer can go alone") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    for (const std::string part : {"attention", "feed-forward"}) {
        const auto result =
            runPass(model, "drop-layers", "", R"({"count": 1, "part": ")" + part + R"("})", &samples);
        const auto before = analysis::recognise(model), after = analysis::recognise(result.model);
        CHECK(after.attention.size() == before.attention.size() - (part == "attention" ? 1 : 0));
        CHECK(after.feedForward.size() == before.feedForward.size() - (part == "attention" ? 0 : 1));
    }
}

TEST_CASE("a share of the layers is at least one") {
    const ir::Model model = test::dataModel("gpt2_char");
    const auto blocks = analysis::recognise(model).blocks.size();
    CHECK(analysis::recognise(runPass(model, "drop-layers", "", R"({"ratio": 0.01})").model).blocks.size() ==
          blocks - 1);
    CHECK(analysis::recognise(runPass(model, "drop-layers", "", R"({"ratio": 0.5})").model).blocks.size() ==
          blocks - blocks / 2);
}

TEST_CASE("by angular distance consecutive layers go") {
    const ir::Model model = test::dataModel("vit_mnist5k");
    const data::Dataset samples = samplesOf("mnist5k_calibration", 0, 32);
    const auto result = runPass(model, "drop-layers", "", R"({"count": 2, "criterion": "angular-distance"})", &samples);
    CHECK(analysis::recognise(result.model).blocks.size() == 4);
    REQUIRE(result.report.changed.size() == 2);
    const auto number = [](const std::string& site) { return std::stoi(site.substr(site.find(' ') + 1)); };
    CHECK(number(result.report.changed[1].site) == number(result.report.changed[0].site) + 1);
}

TEST_CASE("branches that add next to nothing go, their mean stays") {
    ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    {
        const analysis::TransformerView view = analysis::recognise(model);
        const analysis::Site& down = view.sites[view.feedForward[1].down.front()];
        Tensor faint = *down.weight->constant();
        for (float& value : faint.mutableData<float>()) value *= 1e-3F;
        ir::Edit edit(model, "test");
        edit.setConstant(down.weight, faint);
        edit.commit();
    }
    const std::string options = R"({"part": "branch", "patch_form": "bias", "refit": "readers", "max_error": )";
    const auto [lighter, report] = runPass(model, "drop-layers", "", options + "0.005}", &samples);
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed.front().site == "feed-forward 1");
    CHECK_THAT(report.changed.front().change, Catch::Contains("a constant takes its place"));
    CHECK(analysis::recognise(lighter).feedForward.size() == analysis::recognise(model).feedForward.size() - 1);
    CHECK(outputError(model, lighter, samplesOf("digits_calibration", 48, 96)) < 1e-4);
    const auto strict = runPass(model, "drop-layers", "", options + "0}", &samples);
    CHECK(strict.report.changed.empty());
    REQUIRE_FALSE(strict.report.skipped.empty());
    CHECK_THAT(strict.report.skipped.back().reason, Catch::Contains("off without it (max_error 0)"));
    // A linear map in its place is a product more.
    const auto mapped = runPass(model, "drop-layers", "", R"({"part": "branch", "refit": "readers", "max_error": 0.005})", &samples);
    CHECK(test::countOf(mapped.model, "MatMul") > test::countOf(lighter, "MatMul"));
}
