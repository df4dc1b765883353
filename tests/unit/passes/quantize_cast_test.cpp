// Sixteen-bit weights and whole graphs.

#include <catch2/catch.hpp>

#include "lib/ir/edit.h"
#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::countOf;
using test::modelWithWeights;
using test::runPass;
using test::skippedSite;

namespace {

const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[N] ids) => (float[N,50] y)
    <float table = {0}, float w = {0}, float b = {0}>
    {
        [lookup] rows = Gather(table, ids)
        [layer] h = MatMul(rows, w)
        y = Add(h, b)
    })";

ir::Model small() { return modelWithWeights(kText, {{"table", {30, 40}}, {"w", {40, 50}}, {"b", {50}}}); }

const test::Feeds& ids() {
    static const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({4}, {0, 29, 3, 3})}};
    return feeds;
}

}  // namespace

TEST_CASE("Stored narrow, a model computes with the rounded weights") {
    const DType dtype = GENERATE(DType::float16, DType::bfloat16);
    const ir::Model model = small();
    const auto [narrow, report] =
        runPass(model, "quantize", "cast", "{\"dtype\": \"" + std::string(name(dtype)) + "\"}");
    CHECK(report.changed.size() == 2);
    ir::Model expected = model.clone();
    ir::Edit edit(expected, "test");
    for (const char* weight : {"table", "w"}) {
        ir::Value* value = expected.graph().find(weight);
        edit.setConstant(value, convert(convert(*value->constant(), dtype), DType::float32));
    }
    edit.commit();
    CHECK(test::largestDifference(test::outputsOf(narrow, ids()), test::outputsOf(expected, ids())) == 0);
    for (const auto& node : narrow.graph().nodes())
        if (node->is("Gather")) CHECK(node->input(0)->dtype() == dtype);
    CHECK(narrow.constantBytes() == model.constantBytes() - (30 * 40 + 40 * 50) * 2);
}

TEST_CASE("A weight outside the type's range stays float32") {
    ir::Model model = small();
    ir::Edit edit(model, "test");
    Tensor large = *model.graph().find("w")->constant();
    large.mutableData<float>()[3] = 70000;
    edit.setConstant(model.graph().find("w"), large);
    edit.commit();
    const auto half = runPass(model, "quantize", "cast", "{}");
    REQUIRE(skippedSite(half.report, "layer") != nullptr);
    CHECK(skippedSite(half.report, "layer")->reason ==
          "its value 70000 is outside float16, so it stays float32");
    const auto brain = runPass(model, "quantize", "cast", R"({"dtype": "bfloat16"})");
    CHECK(brain.report.skipped.empty());

    const auto full = runPass(model, "quantize", "cast", R"({"compute": "full"})");
    REQUIRE(skippedSite(full.report, "layer") != nullptr);
    CHECK(full.model.graph().find("w")->dtype() == DType::float32);
    CHECK(test::largestDifference(test::outputsOf(full.model, ids()), test::outputsOf(model, ids())) < 1e-3);
}

TEST_CASE("A whole graph in float16 keeps its inputs and outputs") {
    const std::string name =
        GENERATE("bert_tiny", "gpt2_char", "gpt2_char_kv", "llama_char", "t5_char_decoder", "vit_digits");
    INFO(name);
    const ir::Model model = test::dataModel(name);
    const auto [half, report] = runPass(model, "quantize", "cast", R"({"compute": "full"})");
    ir::validateStructure(half);
    for (std::size_t i = 0; i < model.graph().outputs().size(); ++i) {
        CHECK(half.graph().outputs()[i]->name() == model.graph().outputs()[i]->name());
        CHECK(half.graph().outputs()[i]->dtype() == model.graph().outputs()[i]->dtype());
    }
    CHECK(half.constantBytes() < model.constantBytes() * 0.6);
    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(half, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < 0.02);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::runtimeOutputsOf(half, feeds), test::outputsOf(model, feeds)) <
              0.02);
}

TEST_CASE("Options of compute full that cannot be are refused") {
    CHECK_THROWS_WITH(test::makePass("quantize", "cast", R"({"compute": "full", "dtype": "bfloat16"})"),
                      Catch::Contains("needs float16"));
    CHECK_THROWS_WITH(test::makePass("quantize", "cast", R"({"compute": "full", "targets": ["x"]})"),
                      Catch::Contains("whole graph"));
}
