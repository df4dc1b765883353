// Smoothing: the graph with it computes what it did before rounding, outliers stop hurting, and what gains
// nothing stays as it is.

#include "passes/quantize/int8/smoothing.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/gram.h"
#include "lib/ir/validate.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::countOf;
using test::modelWithWeights;
using test::runPass;
using test::skippedSite;

namespace {

/// Two layers that read x (one with a constant behind it), a Gemm with one inside.
const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,64] x) => (float[N,48] p, float[N,50] q, float[N,30] y)
    <float w1 = {0}, float w2 = {0}, float w3 = {0}, float b1 = {0}, float c = {0}>
    {
        [first] m = MatMul(x, w1)
        p = Add(m, b1)
        [second] q = MatMul(x, w2)
        [third] y = Gemm<transB = 1>(x, w3, c)
    })";
const std::map<std::string, Shape> kWeights = {
    {"w1", {64, 48}}, {"w2", {64, 50}}, {"w3", {30, 64}}, {"b1", {48}}, {"c", {30}}};

enum class Kind { alike, outliers, shifted };

Tensor activations(std::int64_t rows, Kind kind, std::uint64_t seed) {
    Tensor x = test::randomTensor({rows, 64}, seed, 1.0);
    const auto values = x.mutableData<float>();
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t channel = i % 64;
        if (kind == Kind::outliers && channel % 16 == 3) values[i] *= 60.0F;
        if (kind == Kind::shifted && channel == 7) values[i] += 40.0F;
        if (kind == Kind::shifted && channel == 30) values[i] -= 25.0F;
    }
    return x;
}

data::Dataset samples(Kind kind) { return {{{"x", activations(400, kind, 3)}}, std::nullopt, "test"}; }

double moved(const std::vector<Tensor>& before, const std::vector<Tensor>& after) {
    double sum = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
        const auto a = toFloat32(before[i]), b = toFloat32(after[i]);
        for (std::size_t j = 0; j < a.size(); ++j) sum += std::pow(static_cast<double>(a[j]) - b[j], 2);
    }
    return std::sqrt(sum);
}

}  // namespace

TEST_CASE("Smoothing lowers the error where few channels are large or off centre") {
    const Kind kind = GENERATE(Kind::outliers, Kind::shifted);
    const ir::Model model = modelWithWeights(kText, kWeights);
    const data::Dataset calibration = samples(kind);
    const auto plain = runPass(model, "quantize", "dynamic", "{}");
    const auto smooth = runPass(model, "quantize", "dynamic", "{}", &calibration);
    ir::validateStructure(smooth.model);
    const test::Feeds feeds{{"x", activations(50, kind, 9)}};
    const auto original = test::outputsOf(model, feeds), after = test::outputsOf(smooth.model, feeds);
    CHECK(moved(original, after) < 0.5 * moved(original, test::outputsOf(plain.model, feeds)));
    CHECK(countOf(smooth.model, "DynamicQuantizeLinear") == 1);
    if (test::haveJudge())
        CHECK(test::largestDifference(after, test::runtimeOutputsOf(smooth.model, feeds)) < 0.01);
}

TEST_CASE("An input that gains nothing stays as it is") {
    const ir::Model model = modelWithWeights(kText, kWeights);
    const data::Dataset calibration = samples(Kind::alike);
    const auto [smooth, report] = runPass(model, "quantize", "dynamic", "{}", &calibration);
    for (const auto& node : smooth.graph().nodes())
        if (node->is("DynamicQuantizeLinear")) CHECK(node->input(0)->producer() == nullptr);
    CHECK(countOf(smooth, "Add") == countOf(runPass(model, "quantize", "dynamic", "{}").model, "Add"));
}

TEST_CASE("Smoothing options: a given alpha, no shift, none at all") {
    const ir::Model model = modelWithWeights(kText, kWeights);
    const data::Dataset calibration = samples(Kind::outliers);
    const test::Feeds feeds{{"x", activations(50, Kind::outliers, 9)}};
    const auto original = test::outputsOf(model, feeds);
    const double plain =
        moved(original, test::outputsOf(runPass(model, "quantize", "dynamic", "{}").model, feeds));
    const auto run = [&](const std::string& options) {
        return runPass(model, "quantize", "dynamic", options, &calibration);
    };
    const auto fixed = run(R"({"alpha": 0.5, "shift": false})");
    CHECK(moved(original, test::outputsOf(fixed.model, feeds)) < 0.6 * plain);
    const auto none = run(R"({"smooth": "none", "rounding": "nearest"})");
    CHECK(moved(original, test::outputsOf(none.model, feeds)) == Approx(plain));
    const auto rounded = run(R"({"smooth": "none"})");
    CHECK(moved(original, test::outputsOf(rounded.model, feeds)) < 1.05 * plain);
    for (const auto& node : rounded.model.graph().nodes())
        if (node->is("DynamicQuantizeLinear")) CHECK(node->input(0)->producer() == nullptr);
}

TEST_CASE("Layers whose outputs would be off by too much are left alone, with the figure") {
    const ir::Model model = modelWithWeights(kText, kWeights);
    const data::Dataset calibration = samples(Kind::outliers);
    const std::string method = GENERATE("dynamic", "static");
    const auto none = runPass(model, "quantize", method, R"({"max_error": 1e-6})", &calibration);
    CHECK(none.report.changed.empty());
    REQUIRE(skippedSite(none.report, "first") != nullptr);
    CHECK_THAT(skippedSite(none.report, "first")->reason, Catch::Contains("max_error"));
    const auto all = runPass(model, "quantize", method, R"({"max_error": 0.5})", &calibration);
    CHECK(all.report.changed.size() == 3);
    CHECK_THROWS_WITH(runPass(model, "quantize", method, R"({"max_error": 0.5})"),
                      Catch::Contains("--calibration"));
}

TEST_CASE("Shifted moments are those of the shifted rows") {
    const Tensor x = test::randomTensor({20, 5}, 1, 1.0);
    passes::ActivationEvidence evidence;
    evidence.rows = 20;
    evidence.sum.assign(5, 0.0);
    evidence.secondMoment.assign(25, 0.0);
    const std::vector<float> shifts{0.5F, -1.0F, 2.0F, 0.0F, 3.0F};
    std::vector<float> moved(x.data<float>().begin(), x.data<float>().end());
    for (std::size_t i = 0; i < moved.size(); ++i) {
        evidence.sum[i % 5] += moved[i];
        moved[i] -= shifts[i % 5];
    }
    kernels::accumulateGram(x.data<float>(), 20, 5, evidence.secondMoment);
    std::vector<double> expected(25, 0.0);
    kernels::accumulateGram(moved, 20, 5, expected);
    const auto result = passes::shiftedMoment(evidence, shifts);
    for (std::size_t i = 0; i < 25; ++i) CHECK(result[i] == Approx(expected[i]).margin(1e-4));
}

TEST_CASE("Smoothed real models stay close, in ONNX Runtime too") {
    const ir::Model model = test::dataModel("vit_digits");
    const auto folder = std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo";
    const data::Dataset calibration = data::readDataset(folder / "digits_calibration.npz").head(40);
    const auto smooth = runPass(model, "quantize", "dynamic", "{}", &calibration);
    const auto plain = runPass(model, "quantize", "dynamic", "{}");
    const test::Feeds feeds =
        data::fitToModel(data::readDataset(folder / "digits_validation.npz"), model).rows(0, 40);
    const auto original = test::outputsOf(model, feeds), after = test::outputsOf(smooth.model, feeds);
    CHECK(moved(original, after) < moved(original, test::outputsOf(plain.model, feeds)));
    if (test::haveJudge())
        CHECK(test::largestDifference(after, test::runtimeOutputsOf(smooth.model, feeds)) < 0.02);
}
