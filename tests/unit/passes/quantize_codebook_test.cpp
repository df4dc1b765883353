// The codebook pass: the graph computes with what the numbers stand for, here and in ONNX Runtime.

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/data/dataset.h"
#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::countOf;
using test::runPass;
using test::skippedSite;

namespace {

const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[B,T] ids) => (float[B,T,44] y)
    <float table = {0}, float w1 = {0}, float w2 = {0}>
    {
        [lookup] rows = Gather(table, ids)
        [first] h = MatMul(rows, w1)
        flat_shape = Constant<value_ints = [-1, 56]>()
        flat = Reshape(h, flat_shape)
        [second] g2 = Gemm<transB = 1>(flat, w2)
        s = Shape(ids)
        last = Constant<value_ints = [44]>()
        back = Concat<axis = 0>(s, last)
        y = Reshape(g2, back)
    })";

ir::Model small() {
    return test::modelWithWeights(kText, {{"table", {40, 72}}, {"w1", {72, 56}}, {"w2", {44, 56}}});
}

struct Choice {
    std::string options;
    double bound;  ///< a little above the largest error of a layer
};

const std::vector<Choice>& allChoices() {
    static const std::vector<Choice> choices = {
        {R"({"codebook": "normal-float", "bits": 4, "group_size": 16})", 0.085},
        {R"({"codebook": "normal-float", "bits": 3, "group_size": -1})", 0.2},
        {R"({"codebook": "logarithmic", "bits": 4})", 0.19},
        {R"({"codebook": "logarithmic", "bits": 3, "group_size": 32})", 0.2},
        {R"({"bits": 4})", 0.065},
        {R"({"codebook": "k-means", "bits": 1})", 0.65},
        {R"({"codebook": "vector", "bits": 4})", 0.1},
        {R"({"codebook": "vector", "bits": 2})", 0.26},
        {R"({"codebook": "vector", "bits": 2, "dimension": 8, "books": 2})", 0.16},
        {R"({"codebook": "vector", "bits": 1.5, "books": 2})", 0.38},
    };
    return choices;
}

/// The quantized model computes the same here and in ONNX Runtime.
void checkModel(const std::string& name, const std::string& options, const data::Dataset* samples) {
    INFO(name << " " << options);
    const ir::Model model = test::dataModel(name);
    const auto [quantized, report] = runPass(model, "quantize", "codebook", options, samples);
    ir::validateStructure(quantized);
    CHECK_FALSE(report.changed.empty());
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(quantized, feeds), test::runtimeOutputsOf(quantized, feeds)) < 2e-5);
}

}  // namespace

TEST_CASE("A codebook model runs as its weights were measured, here and in ONNX Runtime") {
    const auto [options, bound] = GENERATE(from_range(allChoices()));
    INFO(options);
    const ir::Model model = small();
    const bool isKMeans = options.find("k-means") != std::string::npos || options == R"({"bits": 4})";
    const auto [quantized, report] = runPass(model, "quantize", "codebook", options);
    ir::validateStructure(quantized);
    CHECK(quantized.opset() == 17);
    CHECK(report.changed.size() == (isKMeans ? 2 : 3));
    CHECK(report.skipped.size() == (isKMeans ? 1 : 0));
    for (const ir::Value* value : quantized.graph().initializers())
        if (value->dtype() == DType::float32) CHECK(value->constant()->size() <= (isKMeans ? 40 * 72 : 32));
    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({2, 3}, {0, 39, 5, 5, 1, 28})}};
    const auto outputs = test::outputsOf(quantized, feeds);
    double largest = 0;
    for (const auto& changed : report.changed) largest = std::max(largest, changed.error);
    CHECK(largest < bound);
    CHECK(largest > bound / 2);
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < 1.2 * largest);
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(quantized, feeds)) < 1e-5);
}

TEST_CASE("A codebook of enough entries loses next to nothing") {
    const ir::Model model = small();
    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({1, 4}, {0, 39, 5, 7})}};
    for (const char* options : {R"({"bits": 8})", R"({"codebook": "normal-float", "bits": 8, "group_size": 16})"}) {
        const auto quantized = runPass(model, "quantize", "codebook", options);
        CHECK(test::largestDifference(test::outputsOf(quantized.model, feeds), test::outputsOf(model, feeds)) <
              0.03);
    }
}

TEST_CASE("Real models run from codebooks") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "llama_char", "t5_char_decoder", "vit_digits",
                                      "bert_tiny_fused");
    checkModel(name, allChoices()[GENERATE(0, 4, 7)].options, nullptr);
}

TEST_CASE("Real models run from codebooks that were fitted to calibration data") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "bert_tiny_fused");
    const data::Dataset samples = data::syntheticDataset(test::dataModel(name), 8, 5);
    checkModel(name, allChoices()[GENERATE(0, 4, 9)].options, &samples);
}

TEST_CASE("With data, codebooks lose less of the layers' outputs") {
    const ir::Model model = test::dataModel("bert_tiny");
    const data::Dataset samples = data::syntheticDataset(model, 32, 5);
    const std::string kind = GENERATE("normal-float", "logarithmic", "k-means", "vector");
    const auto errorOf = [&](const std::string& feedback) {
        const auto result = runPass(model, "quantize", "codebook",
                                    R"({"bits": 3, "ignore": ["role:embedding"], "codebook": ")" + kind +
                                        R"(", "error_feedback": )" + feedback + "}",
                                    &samples);
        double sum = 0;
        for (const auto& changed : result.report.changed) sum += changed.error;
        return sum;
    };
    CHECK(errorOf("true") < 0.95 * errorOf("false"));
}

TEST_CASE("Codebooks that cannot be are refused at their place") {
    const auto refused = [](const char* options, const char* where) {
        INFO(options);
        CHECK_THROWS_WITH(test::makePass("quantize", "codebook", options), Catch::Contains(where));
    };
    refused(R"({"codebook": "logarithmic", "bits": 6})", "/passes/0/bits");
    refused(R"({"codebook": "normal-float", "bits": 1})", "/passes/0/bits");
    refused(R"({"codebook": "normal-float", "group_size": 8})", "/passes/0/group_size");
    refused(R"({"group_size": 32})", "/passes/0/group_size");
    refused(R"({"dimension": 4})", "/passes/0/dimension");
    refused(R"({"codebook": "vector", "dimension": 3})", "/passes/0/dimension");
    refused(R"({"codebook": "vector", "bits": 8})", "/passes/0/dimension");
    refused(R"({"codebook": "vector", "bits": 4, "dimension": 4})", "/passes/0/dimension");
    refused(R"({"codebook": "normal-float", "books": 2})", "/passes/0/books");
    refused(R"({"shared": "role"})", "/passes/0/shared");
    refused(R"({"bits": 3.5})", "/passes/0/bits");
    refused(R"({"codebook": "vector", "bits": 1.3})", "/passes/0/dimension");
}

TEST_CASE("A quantized codebook model is left alone, and said to be") {
    const auto first = runPass(small(), "quantize", "codebook", R"({"codebook": "vector", "bits": 2})");
    const auto second = runPass(first.model, "quantize", "weight-only", "{}");
    CHECK(second.report.changed.empty());
    REQUIRE(skippedSite(second.report, "first") != nullptr);
    CHECK_THAT(skippedSite(second.report, "first")->reason, Catch::Contains("already quantized"));
}

namespace {

/// Different constants that look like the codebook of `size` entries for pieces of 4.
std::size_t codebooks(const ir::Model& model, std::int64_t size) {
    const auto values = model.graph().initializers();
    return static_cast<std::size_t>(std::count_if(values.begin(), values.end(), [&](const ir::Value* value) {
        return value->dtype() == DType::float16 && value->constant()->shape() == Shape{size, 4};
    }));
}

}  // namespace

TEST_CASE("Matrices that share a codebook read one initializer, with and without data, here and in ONNX Runtime") {
    const ir::Model model = test::dataModel("bert_tiny");
    const data::Dataset samples = data::syntheticDataset(model, 16, 5);
    const data::Dataset* data = GENERATE(false, true) ? &samples : nullptr;
    const auto run = [&](const std::string& shared) {
        return runPass(model, "quantize", "codebook",
                       R"({"codebook": "vector", "bits": 2, "targets": ["role:ffn"], "refine": 2, "shared": ")" + shared + "\"}",
                       data);
    };
    const auto own = run("none");
    const std::string which = GENERATE("role", "all");
    const auto [together, report] = run(which);
    ir::validateStructure(together);
    REQUIRE(report.changed.size() == own.report.changed.size());
    const std::size_t before = own.report.changed.size(), after = which == "role" ? 2 : 1;
    CHECK(codebooks(own.model, 256) == before);
    CHECK(codebooks(together, 256) == after);
    CHECK(together.constantBytes() + (before - after) * 256 * 4 * 2 == own.model.constantBytes());
    // One for all fits each a little worse than its own.
    for (std::size_t i = 0; i < report.changed.size(); ++i) {
        CHECK(report.changed[i].error > 0.9 * own.report.changed[i].error);
        CHECK(report.changed[i].error < 2 * own.report.changed[i].error);
        CHECK_THAT(report.changed[i].change, Catch::Contains("shared with"));
    }
    CHECK(std::any_of(report.notes.begin(), report.notes.end(), [&](const std::string& note) {
        return note.find(which == "role" ? "'ffn.up_codebook'" : "'shared_codebook'") != std::string::npos;
    }));
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(together, feeds), test::runtimeOutputsOf(together, feeds)) < 2e-5);
}

TEST_CASE("Matrices that share a codebook come back whole before they are quantized anew") {
    const ir::Model model = test::dataModel("bert_tiny");
    const auto shared =
        runPass(model, "quantize", "codebook", R"({"codebook": "vector", "bits": 4, "shared": "all"})");
    const auto again = runPass(shared.model, "quantize", "weight-only", R"({"bits": 8, "requantize": true})");
    CHECK(again.report.changed.size() == shared.report.changed.size());
    CHECK(codebooks(again.model, 256) == 0);
    // As much is lost as by the same bits without codebooks before.
    const auto direct = runPass(model, "quantize", "weight-only", R"({"bits": 8})");
    const test::Feeds feeds = test::feedsFor(model);
    const auto lost = [&](const ir::Model& before, const ir::Model& after) {
        return test::largestDifference(test::outputsOf(after, feeds), test::outputsOf(before, feeds));
    };
    CHECK(lost(shared.model, again.model) < 2 * lost(model, direct.model));
    CHECK(lost(shared.model, again.model) < 0.5 * lost(model, shared.model));
}
