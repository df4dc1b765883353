// Sixteen-bit weights and whole graphs.

#include <catch2/catch.hpp>

#include <cmath>

#include "lib/data/dataset.h"
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
    REQUIRE(skippedSite(full.report, "outside the blocks") != nullptr);
    CHECK(skippedSite(full.report, "outside the blocks")->reason ==
          "1 node stays float32: 'w' holds 70000, and float16 ends at 65504");
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

TEST_CASE("float8 weights are those of the type, times a scale a channel, in ONNX Runtime too") {
    const DType dtype = GENERATE(DType::float8e4m3fn, DType::float8e5m2);
    const ir::Model model = modelWithWeights(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] ids, float[1,6,9,9] image) => (float[N,45] y, float[1,16,7,7] d)
        <float table = {0}, float w1 = {0}, float w2 = {0}, float kernel = {0}>
        {
            [lookup] rows = Gather(table, ids)
            [first] h = MatMul(rows, w1)
            [second] y = Gemm<transB = 1>(h, w2)
            [conv] d = Conv(image, kernel)
        })",
        {{"table", {30, 40}}, {"w1", {40, 50}}, {"w2", {45, 50}}, {"kernel", {16, 6, 3, 3}}});
    const auto [narrow, report] =
        runPass(model, "quantize", "cast", "{\"dtype\": \"" + std::string(name(dtype)) + "\"}");
    ir::validateStructure(narrow);
    CHECK(report.changed.size() == 4);
    CHECK(report.skipped.empty());
    CHECK(narrow.opset() == 19);
    CHECK(narrow.constantBytes() < model.constantBytes() * 0.32);
    // Half a step of 3 or 2 bits behind the point, and what is left of it near 0.
    const double step = dtype == DType::float8e4m3fn ? 0.0625 : 0.125;
    for (const auto& changed : report.changed) {
        CHECK(changed.error < step);
        CHECK(changed.error > step / 8);
    }
    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({4}, {0, 29, 3, 3})},
                            {"image", test::randomTensor({1, 6, 9, 9}, 31, 1.0)}};
    const auto outputs = test::outputsOf(narrow, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < 2 * step);
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(narrow, feeds)) < 1e-5);
}

TEST_CASE("Real models run with float8 weights") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "llama_char", "vit_digits");
    const ir::Model model = test::dataModel(name);
    INFO(name);
    const auto narrow = runPass(model, "quantize", "cast", R"({"dtype": "float8e4m3fn"})").model;
    ir::validateStructure(narrow);
    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(narrow, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < 0.3);
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(narrow, feeds)) < 2e-5);
}

TEST_CASE("What overflows float16 on calibration data, or is lost in it, stays float32") {
    // Up to 1e8 and down to 1e-8, and back again.
    const std::string first = GENERATE("10000", "0.0001"), last = first == "10000" ? "0.0001" : "10000";
    const ir::Model model = modelWithWeights(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] ids) => (float[N,50] y)
        <float table = {0}, float w = {0}, float k = {)" + first + R"(}, float l = {)" + last + R"(}>
        {
            [lookup] rows = Gather(table, ids)
            [once] a = Mul(rows, k)
            [twice] b = Mul(a, k)
            [back] c = Mul(b, l)
            [again] d = Mul(c, l)
            [layer] y = MatMul(d, w)
        })",
                                             {{"table", {30, 40}}, {"w", {40, 50}}});
    const data::Dataset samples = data::syntheticDataset(model, 16, 5);
    const auto blind = runPass(model, "quantize", "cast", R"({"compute": "full"})");
    const auto seeing = runPass(model, "quantize", "cast", R"({"compute": "full"})", &samples);
    CHECK(blind.report.skipped.empty());
    REQUIRE(seeing.report.skipped.size() == 1);
    const std::string& reason = seeing.report.skipped.front().reason;
    CHECK_THAT(reason, Catch::Contains("nodes stay float32: 'b' ") || Catch::Contains("nodes stay float32: 'a' "));
    CHECK_THAT(reason, Catch::Contains(first == "10000" ? "float16 ends at 65504" : "would lose"));
    CHECK(seeing.model.graph().find("w_float16") != nullptr);
    const auto expected = test::outputsOf(model, ids());
    const auto isRight = [&](const std::vector<Tensor>& outputs) {
        for (const float value : toFloat32(outputs.front()))
            if (!std::isfinite(value)) return false;
        return test::largestDifference(outputs, expected) < 5e-3;
    };
    // Runtimes without half kernels keep products in float32, so that only the types tell what a float16 machine does.
    CHECK(blind.model.graph().find("b")->dtype() == DType::float16);
    CHECK(seeing.model.graph().find("b")->dtype() == DType::float32);
    CHECK(isRight(test::outputsOf(seeing.model, ids())));
    if (test::haveJudge()) CHECK(isRight(test::runtimeOutputsOf(seeing.model, ids())));
}

TEST_CASE("A whole graph in float16 with calibration data keeps in float32 only what must be") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "vit_digits");
    const ir::Model model = test::dataModel(name);
    const data::Dataset samples = data::syntheticDataset(model, 4, 5);
    INFO(name);
    const auto [half, report] = runPass(model, "quantize", "cast", R"({"compute": "full"})", &samples);
    CHECK(half.constantBytes() < model.constantBytes() * 0.6);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(half, feeds), test::outputsOf(model, feeds)) < 0.02);
}
