// Tables by use: what is read is what the tables' rows stand for, in ONNX Runtime too; the file is as small
// as was asked; frequent rows are the exact ones.

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/ir/validate.h"
#include "lib/support/random.h"
#include "passes/quantize/codebook/codebook.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::countOf;
using test::modelWithWeights;
using test::runPass;

namespace {

constexpr std::int64_t kRows = 6000, kLength = 48;

const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[B,T] input_ids) => (float[B,T,48] rows)
    <float table = {0}>
    {
        [lookup] rows = Gather(table, input_ids)
    })";

ir::Model tableModel() { return modelWithWeights(kText, {{"table", {kRows, kLength}}}); }

/// Rows 0 … 99 nine times as often as the next 900, the rest never.
data::Dataset samples() {
    std::vector<std::int64_t> ids;
    for (std::int64_t i = 0; i < 2000; ++i) ids.push_back(i % 2 == 0 ? i / 2 % 100 : 100 + i % 900);
    return {{{"input_ids", Tensor::of<std::int64_t>({100, 20}, std::span<const std::int64_t>(ids))}},
            std::nullopt,
            "test"};
}

std::size_t bytesOf(const ir::Model& model) {
    std::size_t sum = 0;
    for (const ir::Value* value : model.graph().initializers()) sum += value->constant()->sizeBytes();
    return sum;
}

/// Root mean square error of rows [begin, end) relative to theirs.
double rowError(const ir::Model& model, const ir::Model& original, std::int64_t begin, std::int64_t end) {
    std::vector<std::int64_t> ids;
    for (std::int64_t i = begin; i < end; ++i) ids.push_back(i);
    const test::Feeds feeds{
        {"input_ids", Tensor::of<std::int64_t>({1, end - begin}, std::span<const std::int64_t>(ids))}};
    const auto before = toFloat32(test::outputsOf(original, feeds)[0]);
    const auto after = toFloat32(test::outputsOf(model, feeds)[0]);
    double lost = 0, all = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
        lost += std::pow(static_cast<double>(after[i]) - before[i], 2);
        all += std::pow(static_cast<double>(before[i]), 2);
    }
    return std::sqrt(lost / all);
}

}  // namespace

TEST_CASE("Tables by use keep to their budget and spend it on frequent rows") {
    const double bits = GENERATE(5.0, 3.0, 2.0, 1.6);
    const ir::Model model = tableModel();
    const data::Dataset calibration = samples();
    const auto [quantized, report] = runPass(
        model, "quantize", "embedding", R"({"bits_per_weight": )" + std::to_string(bits) + "}", &calibration);
    ir::validateStructure(quantized);
    REQUIRE(report.changed.size() == 1);
    INFO(report.changed[0].change);
    // Shapes and shifts of the decoding come on top of what the table takes.
    CHECK(static_cast<double>(bytesOf(quantized)) <= bits / 8 * kRows * kLength + 1000);
    const double frequent = rowError(quantized, model, 0, 100), rare = rowError(quantized, model, 4000, 4400);
    CHECK(frequent < 0.8 * rare);
    for (const auto& node : quantized.graph().nodes())
        if (node->is("Gather")) CHECK(node->input(0)->dtype() != DType::float32);
    if (test::haveJudge()) {
        const test::Feeds feeds{
            {"input_ids", Tensor::of<std::int64_t>({2, 4}, {0, 99, 100, 5999, 3000, 1, 999, 2000})}};
        CHECK(test::largestDifference(test::outputsOf(quantized, feeds),
                                      test::runtimeOutputsOf(quantized, feeds)) < 1e-6);
    }
}

TEST_CASE("Without calibration data all rows count alike, which is said") {
    const auto [quantized, report] =
        runPass(tableModel(), "quantize", "embedding", R"({"bits_per_weight": 4.5, "codebooks": false})");
    REQUIRE(report.notes.size() == 1);
    CHECK_THAT(report.notes[0], Catch::Contains("count alike"));
    CHECK(rowError(quantized, tableModel(), 0, 300) < 0.2);
}

TEST_CASE("A model without tables is left alone, which is said") {
    const auto [model, report] = runPass(test::dataModel("vit_digits"), "quantize", "embedding", "{}");
    CHECK(report.changed.empty());
    REQUIRE(report.notes.size() == 1);
    CHECK_THAT(report.notes[0], Catch::Contains("no embedding tables"));
}

TEST_CASE("A small table gets one format") {
    const ir::Model model = modelWithWeights(kText, {{"table", {300, kLength}}});
    const auto [quantized, report] = runPass(model, "quantize", "embedding", R"({"small_table_bits": 5})");
    REQUIRE(report.changed.size() == 1);
    CHECK_THAT(report.changed[0].change, Catch::Contains("300 rows in 5 bits"));
    CHECK(countOf(quantized, "Where") == 0);
}

TEST_CASE("A budget that nothing fits is refused") {
    CHECK_THROWS_WITH(
        runPass(tableModel(), "quantize", "embedding", R"({"bits_per_weight": 1.5, "codebooks": false})"),
        Catch::Contains("'table' cannot be stored in 1.5 bits"));
}

TEST_CASE("A codebook is better than rounding at the same size, and finds clusters that are there") {
    Random random(2, "clusters");
    std::vector<float> rows;
    std::vector<float> centres;
    for (int i = 0; i < 16 * 4; ++i) centres.push_back(static_cast<float>(random.normal()));
    for (int i = 0; i < 500; ++i)
        for (int piece = 0; piece < 8; ++piece) {
            const auto centre = random.below(16);
            for (std::uint64_t k = 0; k < 4; ++k)
                rows.push_back(centres[centre * 4 + k] + static_cast<float>(0.01 * random.normal()));
        }
    const std::vector<double> weights(500, 1.0);
    const auto codebook = passes::trainCodebook(rows, weights, 32, {4, 64, 12, 4000}, Random(1, "codebook"));
    const auto codes = passes::encodeRows(rows, 32, codebook);
    double lost = 0, all = 0;
    for (const double error : codes.squaredErrors) lost += error;
    for (const float value : rows) all += static_cast<double>(value) * value;
    CHECK(lost < 0.002 * all);
}
