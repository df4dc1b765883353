// Gains and biases of normalizations in the weights that read them: the same outputs with fewer operators.

#include <catch2/catch.hpp>

#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::runPass;

TEST_CASE("a normalization's affine part goes into its readers without a trace") {
    const std::string name = GENERATE("vit_digits", "vit_mnist5k", "gpt2_char", "gpt2_char_kv", "llama_char", "t5_char_decoder");
    CAPTURE(name);
    const ir::Model model = test::dataModel(name);
    const auto [folded, report] = runPass(model, "norm", "fold", "{}");
    ir::validateStructure(folded);
    REQUIRE_FALSE(report.changed.empty());
    const bool isFused = name == "vit_mnist5k";
    CHECK(isFused == (folded.graph().nodes().size() >= model.graph().nodes().size()));
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(folded, feeds), test::outputsOf(model, feeds)) < 2e-5);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(model, feeds), test::runtimeOutputsOf(folded, feeds)) < 1e-4);
    // Nothing is left to fold but what could not be: a second run changes no bit.
    const auto again = runPass(folded, "norm", "fold", "{}");
    CHECK(test::largestDifference(test::outputsOf(again.model, feeds), test::outputsOf(folded, feeds)) == 0);
}

TEST_CASE("where the stream itself reads a normalization it stays") {
    const ir::Model model = test::dataModel("bert_tiny");
    const auto [same, report] = runPass(model, "norm", "fold", "{}");
    CHECK(report.changed.empty());
    CHECK(report.skipped.size() == 5);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(same, feeds), test::outputsOf(model, feeds)) == 0);
}

TEST_CASE("a reader that patterns leave out keeps its normalization") {
    const ir::Model model = test::dataModel("llama_char");
    const auto [folded, report] = runPass(model, "norm", "fold", R"({"ignore": ["block:0"]})");
    const auto whole = runPass(model, "norm", "fold", "{}");
    CHECK(report.changed.size() == whole.report.changed.size() - 2);
}
