// Normalizations over groups of channels as a scale and a shift: exact where their statistics do not vary, least squares elsewhere.

#include <catch2/catch.hpp>

#include "lib/ir/validate.h"
#include "lib/support/error.h"
#include "passes/support/affine_refit.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::outputError;
using test::runPass;

namespace {

/// A convolution, a normalization of its 8 channels, and what reads it. `norm` makes z of c.
ir::Model pictures(const std::string& norm, const std::string& size = "6") {
    return test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 21]>
g (float[n,3,6,)" + size + R"(] x) => (float[n,8,6,)" +
                               size + R"(] y)
<float[8,3,1,1] kernel, float[8] kernel_bias, float[8] gamma, float[8] beta, float[2] ones = {1, 1}, float[2] zeros = {0, 0},
 int64[3] groups = {0, 2, -1}, int64[4] full = {0, 8, 6, )" +
                               size + R"(}, float[8,1,1] gain, float[8,1,1] bias>
{
  c = Conv(x, kernel, kernel_bias)
)" + norm + R"(
  y = Sigmoid(z)
}
)");
}

const char* const kOperator = "  z = GroupNormalization <num_groups = 2> (c, gamma, beta)";
const char* const kPyTorch = R"(
  r = Reshape(c, groups)
  i = InstanceNormalization(r, ones, zeros)
  f = Reshape(i, full)
  m = Mul(f, gain)
  z = Add(m, bias)
)";

}  // namespace

TEST_CASE("a group normalization becomes the line that is nearest to it") {
    const std::string norm = GENERATE(kOperator, kPyTorch);
    const ir::Model model = pictures(norm);
    // Random pictures of many pixels have much the same statistics.
    const data::Dataset calibration = data::syntheticDataset(model, 64, /*seed=*/3),
                        other = data::syntheticDataset(model, 16, /*seed=*/4);
    const auto [affine, report] = runPass(model, "norm", "affine", R"({"max_error": 0.5})", &calibration);
    ir::validateStructure(affine);
    REQUIRE(report.changed.size() == 1);
    CHECK(affine.graph().nodes().size() == 4);
    CHECK(test::countOf(affine, "GroupNormalization") + test::countOf(affine, "InstanceNormalization") == 0);
    CHECK(report.changed.front().error > 0.001);
    CHECK(outputError(model, affine, other) < 0.3);
    if (test::haveJudge()) {
        const test::Feeds feeds = test::feedsFor(model);
        CHECK(test::largestDifference(test::outputsOf(affine, feeds), test::runtimeOutputsOf(affine, feeds)) < 1e-4);
    }
    // One picture only: its statistics are the data's, and nothing is lost on it.
    const data::Dataset one(calibration.rows(0, 1), std::nullopt, "one");
    const auto exact = runPass(model, "norm", "affine", "{}", &one);
    REQUIRE(exact.report.changed.size() == 1);
    CHECK(outputError(model, exact.model, one) < 1e-8);
}

TEST_CASE("a normalization that a line is far from stays, as does one of unknown size") {
    const ir::Model model = pictures(kOperator);
    const data::Dataset calibration = data::syntheticDataset(model, 64, /*seed=*/3);
    const auto [same, report] = runPass(model, "norm", "affine", R"({"max_error": 0.001})", &calibration);
    CHECK(report.changed.empty());
    REQUIRE(report.skipped.size() == 1);
    CHECK_THAT(report.skipped.front().reason, Catch::Contains("max_error"));
    CHECK(runPass(model, "norm", "affine", R"({"ignore": ["*"]})", &calibration).report.skipped.empty());
    CHECK_THROWS_WITH(runPass(model, "norm", "affine", "{}"), Catch::Contains("calibration"));
}

TEST_CASE("what has another shape behind it than in front of it stays") {
    // Reshaped to other channels, and broadcast along an axis of one column.
    const std::string norm = GENERATE(R"(
  r = Reshape(c, groups)
  i = InstanceNormalization(r, ones, zeros)
  halves = Constant <value_ints = [0, 4, 12, 1]> ()
  f = Reshape(i, halves)
  z = Reshape(f, full)
)",
                                      R"(
  r = Reshape(c, groups)
  i = InstanceNormalization(r, ones, zeros)
  f = Reshape(i, full)
  m = Mul(f, gamma)
  z = ReduceMean <axes = [3]> (m)
)");
    const ir::Model model = pictures(norm, "1");
    const data::Dataset calibration = data::syntheticDataset(model, 8, /*seed=*/3);
    const auto [same, report] = runPass(model, "norm", "affine", R"({"max_error": 1})", &calibration);
    CHECK(report.changed.empty());
    REQUIRE(report.skipped.size() == 1);
    CHECK_THAT(report.skipped.front().reason, Catch::Contains("differ in shape"));
}

TEST_CASE("lines are fitted between values of one size only") {
    const std::vector<float> values(24);
    const auto rows = [&](std::int64_t count, std::int64_t channels) {
        return calibration::Rows{count, channels, std::span(values).first(static_cast<std::size_t>(count * channels))};
    };
    passes::ChannelLines pictures(nullptr, nullptr, /*channels=*/2, /*rowsOfChannel=*/3), stream(nullptr, nullptr, {0, 2});
    using Batch = std::vector<calibration::Rows>;
    CHECK_NOTHROW(pictures.add(Batch{rows(6, 4), rows(6, 4)}));
    CHECK_THROWS_AS(pictures.add(Batch{rows(6, 4), rows(6, 1)}), PassError);
    CHECK_THROWS_AS(pictures.add(Batch{rows(6, 4), rows(3, 4)}), PassError);
    CHECK_NOTHROW(stream.add(Batch{rows(4, 2), rows(4, 3)}));
    CHECK_THROWS_AS(stream.add(Batch{rows(4, 2), rows(4, 2)}), PassError);
    CHECK_THROWS_AS(stream.add(Batch{rows(4, 3), rows(4, 3)}), PassError);
}
