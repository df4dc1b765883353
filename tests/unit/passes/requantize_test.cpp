// Quantized models back in float32: the weights that the codes stood for, bit for bit, no quantizer of activations
// left, and the same passes work on them again. The forms of ONNX Runtime's own quantizer come from a script.

#include <catch2/catch.hpp>

#include "lib/data/dataset.h"
#include "lib/ir/load.h"
#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::countOf;
using test::runPass;
using test::skippedSite;

namespace {

data::Dataset digits() {
    const auto folder = std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo";
    return data::readDataset(folder / "digits_calibration.npz").head(40);
}

std::size_t quantizersIn(const ir::Model& model) {
    std::size_t count = 0;
    for (const char* type : {"QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}) count += countOf(model, type);
    return count;
}

}  // namespace

TEST_CASE("What a pass has quantized is decoded and quantized anew") {
    const auto [method, options] = GENERATE(table<std::string, std::string>({
        {"dynamic", "{}"},
        {"static", "{}"},
        {"weight-only", R"({"bits": 8, "format": "qdq"})"},
        {"weight-only", R"({"bits": 4, "format": "contrib", "group_size": 16})"},
        {"weight-only", R"({"bits": 8, "format": "contrib", "group_size": 32, "symmetric": true})"},
        {"weight-only", R"({"bits": 3, "format": "packed"})"},
        {"cast", R"({"dtype": "float16"})"},
    }));
    const std::string name = GENERATE("vit_digits", "gpt2_char");
    INFO(method << " " << options << " " << name);
    if (method == "static" && name != "vit_digits") return;
    const ir::Model model = test::dataModel(name);
    const data::Dataset calibration = digits();
    const auto first = runPass(model, "quantize", method, options, method == "static" ? &calibration : nullptr);
    const test::Feeds feeds = test::feedsFor(model);

    // 8-bit weights per channel with float32 scales: what is decoded is all but what it was.
    const auto again = runPass(first.model, "quantize", "weight-only",
                               R"({"bits": 8, "format": "packed", "scale_type": "float32", "requantize": true})");
    ir::validateStructure(again.model);
    CHECK(quantizersIn(again.model) == 0);
    if (method != "cast") CHECK(again.report.changed.size() + 3 > first.report.changed.size());
    const double weightsOnly = method == "dynamic" || method == "static" ? 0.1 : 0.02;
    CHECK(test::largestDifference(test::outputsOf(again.model, feeds), test::outputsOf(first.model, feeds)) < weightsOnly);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(again.model, feeds), test::runtimeOutputsOf(again.model, feeds)) < 1e-3);

    const auto refused = runPass(first.model, "quantize", "dynamic", "{}");
    CHECK(refused.report.changed.empty());
    const auto integers = runPass(first.model, "quantize", "dynamic", R"({"requantize": true})");
    CHECK(countOf(integers.model, "MatMulInteger") == countOf(runPass(model, "quantize", "dynamic", "{}").model, "MatMulInteger"));
}

TEST_CASE("Decoded weights are what the codes stood for") {
    // Quantized to 8 bits with float32 scales and decoded, a weight is on a grid of 8 bits: the same pass finds it again.
    const ir::Model model = test::dataModel("vit_digits");
    const std::string options = R"({"bits": 8, "format": "contrib", "group_size": 32, "scale_type": "float32"})";
    const auto first = runPass(model, "quantize", "weight-only", options);
    const auto second = runPass(first.model, "quantize", "weight-only",
                                R"({"bits": 8, "format": "contrib", "group_size": 32, "scale_type": "float32", "requantize": true})");
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(second.model, feeds), test::outputsOf(first.model, feeds)) < 1e-4);
}

TEST_CASE("Targets choose what is decoded") {
    const ir::Model model = test::dataModel("vit_digits");
    const auto first = runPass(model, "quantize", "dynamic", "{}");
    const auto part = runPass(first.model, "quantize", "weight-only",
                              R"({"bits": 4, "targets": ["role:ffn.up"], "requantize": true})");
    CHECK(part.report.changed.size() == 4);
    CHECK(countOf(part.model, "MatMulInteger") + 4 == countOf(first.model, "MatMulInteger"));
}

TEST_CASE("Every method takes what is quantized already, when it is asked to") {
    const ir::Model model = test::dataModel("gpt2_char");
    const auto first = runPass(model, "quantize", "weight-only", R"({"bits": 8, "scale_type": "float32"})");
    const auto [method, options] = GENERATE(table<std::string, std::string>({
        {"embedding", R"("small_table_bits": 4)"},
        {"codebook", R"("codebook": "normal-float", "bits": 4)"},
        {"cast", R"("dtype": "float16")"},
        {"cast", R"("dtype": "float16", "compute": "full")"},
        {"cast", R"("dtype": "float8e4m3fn")"},
        {"auto", R"("bits_per_weight": 9)"},
    }));
    INFO(method << " " << options);
    const auto with = [&](const ir::Model& from, const std::string& more) {
        return runPass(from, "quantize", method, "{" + options + more + "}");
    };
    const auto again = with(first.model, R"(, "requantize": true)");
    ir::validateStructure(again.model);
    // The same sites as in the model that was never quantized, where nothing is changed without the option.
    const auto direct = with(model, "");
    CHECK(again.report.changed.size() == direct.report.changed.size());
    const auto left = with(first.model, "");
    if (method != "cast") CHECK(left.report.changed.empty());
    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(again.model, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(direct.model, feeds)) < 0.1);
    if (test::haveJudge()) CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(again.model, feeds)) < 5e-3);
}

TEST_CASE("Tables come back whole, however their rows are stored") {
    const ir::Model model = test::dataModel("gpt2_char");
    const auto [method, options] = GENERATE(table<std::string, std::string>({
        {"weight-only", R"({"bits": 8})"},
        {"weight-only", R"({"bits": 4})"},
        {"weight-only", R"({"bits": 4, "group_size": -1, "symmetric": true})"},
        {"weight-only", R"({"bits": 3, "format": "packed", "group_size": 48})"},
        {"weight-only", R"({"bits": 1})"},
        {"weight-only", R"({"bits": 2, "ternary": true})"},
        {"codebook", R"({"codebook": "normal-float", "bits": 4})"},
        {"codebook", R"({"codebook": "vector", "bits": 2})"},
        {"embedding", R"({"bits_per_weight": 4, "fewest_rows": 32})"},
    }));
    INFO(method << " " << options);
    const auto first = runPass(model, "quantize", method, options);
    const auto again = runPass(first.model, "quantize", "embedding", R"({"small_table_bits": 8, "requantize": true})");
    ir::validateStructure(again.model);
    REQUIRE(again.report.changed.size() == 2);
    CHECK(again.report.skipped.empty());
    CHECK(again.report.changed[0].change.starts_with("float32 [96, 64]"));
    CHECK(again.report.changed[1].change.starts_with("float32 [256, 64]"));
    // Layers are left as they are.
    CHECK(countOf(again.model, "MatMul") == countOf(first.model, "MatMul"));
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(again.model, feeds), test::outputsOf(first.model, feeds)) < 0.02);
}

TEST_CASE("Rows that were pruned do not come back when their table is quantized anew") {
    const ir::Model model = test::dataModel("gpt2_char");
    const data::Dataset samples(test::feedsFor(model), std::nullopt, "test");
    ir::Model pruned =
        runPass(model, "prune", "embedding-rows", R"({"unknown": 1, "always": ["0-39"]})", &samples).model;
    ir::inferTypes(pruned);
    const std::string options = GENERATE(R"({"small_table_bits": 8)", R"({"bits_per_weight": 4, "fewest_rows": 16)");
    INFO(options);
    const auto first = runPass(pruned, "quantize", "embedding", options + "}");
    const auto again = runPass(first.model, "quantize", "embedding", R"({"small_table_bits": 8, "requantize": true})");
    const auto direct = runPass(pruned, "quantize", "embedding", R"({"small_table_bits": 8})");
    REQUIRE(direct.report.changed.size() == 2);
    REQUIRE(again.report.changed.size() == 2);
    for (std::size_t i = 0; i < direct.report.changed.size(); ++i)
        CHECK(again.report.changed[i].change == direct.report.changed[i].change);
    CHECK(again.model.constantBytes() == direct.model.constantBytes());
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(again.model, feeds), test::outputsOf(first.model, feeds)) < 0.02);
}

TEST_CASE("A table without rows is left as it is") {
    const ir::Model model = test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (int64[n] ids) => (float[n,64] y)
<int8[0,64] codes = {}, float[0,1] scales = {}>
{
  rows = Gather(codes, ids)
  real = Cast <to = 1> (rows)
  scale = Gather(scales, ids)
  y = Mul(real, scale)
}
)");
    const auto again = runPass(model, "quantize", "weight-only", R"({"bits": 8, "requantize": true})");
    CHECK(again.report.changed.empty());
    CHECK(countOf(again.model, "Mul") == 1);
}

TEST_CASE("The forms of ONNX Runtime's quantizer are decoded") {
    if (!test::haveJudge()) return;
    const std::string form = GENERATE("dynamic", "qdq", "qdq-all");
    INFO(form);
    const test::ScratchFolder scratch;
    const auto source = std::filesystem::path(TCOMPRESS_TEST_DATA) / "models" / "vit_digits.onnx";
    const auto target = scratch.path() / "quantized.onnx";
    const auto judged = test::askJudge({"quantize", source.string(), target.string(), "--form", form});
    INFO(judged.output);
    REQUIRE(judged.exitCode == 0);
    const ir::Model quantized = ir::load(target);
    const auto refused = runPass(quantized, "quantize", "dynamic", "{}");
    REQUIRE_FALSE(refused.report.skipped.empty());
    CHECK(countOf(refused.model, "MatMulInteger") == countOf(quantized, "MatMulInteger"));
    const auto again = runPass(quantized, "quantize", "dynamic", R"({"requantize": true})");
    CHECK(countOf(again.model, "QuantizeLinear") == 0);
    CHECK(countOf(again.model, "MatMulInteger") == 25);
    const test::Feeds feeds = test::feedsFor(quantized);
    const auto outputs = test::outputsOf(again.model, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(test::dataModel("vit_digits"), feeds)) < 0.25);
    CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(again.model, feeds)) < 0.05);
}
