// Rows of token tables that go: the model gives the same for ids that stay, and for others what the unknown id gives; to
// rounding, because the executor may join other operators when an index is computed.

#include <catch2/catch.hpp>
#include <fstream>

#include "lib/data/dataset.h"
#include "lib/ir/load.h"
#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::runPass;

namespace {

/// The model's feeds with other ids.
test::Feeds withIds(const ir::Model& model, const std::vector<std::int64_t>& ids) {
    test::Feeds feeds = test::feedsFor(model);
    Tensor& input = feeds.at("input_ids");
    Tensor values(DType::int64, input.shape());
    for (std::int64_t i = 0; i < values.size(); ++i)
        values.mutableData<std::int64_t>()[static_cast<std::size_t>(i)] = ids[static_cast<std::size_t>(i) % ids.size()];
    input = convert(values, input.dtype());
    return feeds;
}

}  // namespace

TEST_CASE("ids whose rows stay give the same, others what the unknown id gives") {
    const std::string name = GENERATE("bert_tiny", "bert_tiny_fused", "gpt2_char", "llama_char");
    CAPTURE(name);
    const ir::Model model = test::dataModel(name);
    const test::Feeds used = withIds(model, {3, 5, 11, 17});
    const data::Dataset samples(used, std::nullopt, "test");
    const auto [pruned, report] = runPass(model, "prune", "embedding-rows", R"({"unknown": 1, "always": ["0-2", "20"]})", &samples);
    ir::validateStructure(pruned);
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed[0].change.find("rows to 8; other ids read row 1") != std::string::npos);
    CHECK(pruned.constantBytes() < model.constantBytes());
    CHECK(test::largestDifference(test::outputsOf(pruned, used), test::outputsOf(model, used)) < 1e-6);
    const test::Feeds others = withIds(model, {3, 5, 30, 31}), unknown = withIds(model, {3, 5, 1, 1});
    CHECK(test::largestDifference(test::outputsOf(pruned, others), test::outputsOf(model, unknown)) < 1e-6);
    CHECK(test::largestDifference(test::outputsOf(pruned, others), test::outputsOf(model, others)) > 1e-3);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(model, used), test::runtimeOutputsOf(pruned, used)) < 1e-4);
}

TEST_CASE("rows can be listed in a file, and a broken line is told") {
    const ir::Model model = test::dataModel("bert_tiny");
    const test::ScratchFolder folder;
    const auto path = folder.path() / "rows.txt";
    std::ofstream(path) << "3\n5\n11-13\n";
    const std::string options = R"({"unknown": 0, "rows_file": ")" + path.string() + "\"}";
    const auto [pruned, report] = runPass(model, "prune", "embedding-rows", options);
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed[0].change.find("rows to 6") != std::string::npos);
    const test::Feeds feeds = withIds(model, {3, 5, 12, 13});
    CHECK(test::largestDifference(test::outputsOf(pruned, feeds), test::outputsOf(model, feeds)) < 1e-6);
    std::ofstream(path) << "3\nfive\n";
    CHECK_THROWS_WITH(runPass(model, "prune", "embedding-rows", options), Catch::Contains("line 2: 'five'"));
}

TEST_CASE("a table that is the output head too, positions and computed ids are refused") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] input_ids, int64[N] position_ids) => (float[N,60] y)
        <float table = {0}, float places = {0}>
        {
            [words] a = Gather(table, input_ids)
            [positions] b = Gather(places, position_ids)
            c = Add(a, b)
            t = Transpose<perm = [1, 0]>(table)
            [head] y = MatMul(c, t)
        })";
    const ir::Model model = test::modelWithWeights(text, {{"table", {60, 40}}, {"places", {50, 40}}});
    const data::Dataset samples({{"input_ids", Tensor::of<std::int64_t>({4}, {1, 2, 3, 4})},
                                 {"position_ids", Tensor::of<std::int64_t>({4}, {0, 1, 2, 3})}},
                                std::nullopt, "test");
    const auto [pruned, report] = runPass(model, "prune", "embedding-rows", R"({"unknown": 0})", &samples);
    CHECK(report.changed.empty());
    REQUIRE(test::skippedSite(report, "words") != nullptr);
    CHECK(test::skippedSite(report, "words")->reason.find("outputs of 'head'") != std::string::npos);
    REQUIRE(test::skippedSite(report, "positions") != nullptr);
    CHECK(pruned.constantBytes() == model.constantBytes());
    CHECK_THROWS_WITH(runPass(test::dataModel("bert_tiny"), "prune", "embedding-rows", R"({"unknown": 0})"),
                      Catch::Contains("--calibration"));
}
