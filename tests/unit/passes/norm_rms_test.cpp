// LayerNorms without their mean: the same outputs where the mean is zero, fitted ones where it is not.

#include <catch2/catch.hpp>

#include "lib/data/dataset.h"
#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::runPass;

namespace {

/// Single-head attention: o of the stream x, which is looked up.
const std::string kAttention = R"(
  x = Gather(table, ids)
  n = LayerNormalization <axis = -1> (x, g0, b0)
  q = MatMul(n, wq)
  k = MatMul(n, wk)
  v = MatMul(n, wv)
  t = Transpose <perm = [0, 2, 1]> (k)
  s = MatMul(q, t)
  p = Softmax <axis = -1> (s)
  c = MatMul(p, v)
  o = MatMul(c, wo)
)";

/// A layer of a pre-norm model with single-head attention; `norm` makes m of the stream r, `last` makes y of the stream z.
ir::Model layer(const std::string& last, const std::string& norm = "m = LayerNormalization <axis = -1> (r, g1, b1)") {
    return test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (int64[b,s] ids) => (float[b,s,8] y)
<float[16,8] table, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo, float[8] bo, float[8,32] up, float[32,8] down,
 float[8] g0, float[8] b0, float[8] g1, float[8] b1, float[8,8] head>
{)" + kAttention + R"(
  ob = Add(o, bo)
  r = Add(x, ob)
  )" + norm + R"(
  u = MatMul(m, up)
  h = Relu(u)
  d = MatMul(h, down)
  z = Add(r, d)
  )" + last + "\n}\n");
}

}  // namespace

TEST_CASE("a stream whose writers are centred needs no mean taken away") {
    const std::string name = GENERATE("vit_digits", "vit_mnist5k", "gpt2_char", "gpt2_char_kv");
    CAPTURE(name);
    const ir::Model model = test::dataModel(name);
    const auto [changed, report] = runPass(model, "norm", "rms", "{}");
    ir::validateStructure(changed);
    CHECK(report.skipped.empty());
    std::size_t norms = 0;
    for (const auto& count : analysis::recognise(model).norms) norms += static_cast<std::size_t>(count.count);
    CHECK(report.changed.size() == norms);
    CHECK(test::countOf(changed, "LayerNormalization") == 0);
    // A norm that is spelled out loses its first mean and the subtraction.
    if (name != "vit_mnist5k")
        CHECK(test::countOf(model, "Sub") + report.notes.size() - test::countOf(changed, "Sub") == norms);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(changed, feeds), test::outputsOf(model, feeds)) < 2e-5);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(model, feeds), test::runtimeOutputsOf(changed, feeds)) < 1e-4);
}

TEST_CASE("from opset 23 on an RMSNorm is one operator") {
    const ir::Model model = ir::raiseOpset(test::dataModel("vit_mnist5k"), 23);
    const auto [changed, report] = runPass(model, "norm", "rms", "{}");
    CHECK(test::countOf(changed, "RMSNormalization") == report.changed.size());
    CHECK(report.changed.size() > 4);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(changed, feeds), test::outputsOf(model, feeds)) < 2e-5);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(model, feeds), test::runtimeOutputsOf(changed, feeds)) < 1e-4);
}

TEST_CASE("models that take no mean away have nothing to change") {
    for (const char* name : {"llama_char", "t5_char_decoder"}) {
        const auto [same, report] = runPass(test::dataModel(name), "norm", "rms", "{}");
        CHECK(report.changed.empty());
        CHECK(report.skipped.empty());
    }
}

TEST_CASE("what sees the mean of the stream keeps its LayerNorms") {
    const auto refused = [](const ir::Model& model, const std::string& reason) {
        const auto [same, report] = runPass(model, "norm", "rms", "{}");
        CHECK(report.changed.empty());
        REQUIRE_FALSE(report.skipped.empty());
        CHECK_THAT(report.skipped.front().reason, Catch::Contains(reason));
        const test::Feeds feeds = test::feedsFor(model);
        CHECK(test::largestDifference(test::outputsOf(same, feeds), test::outputsOf(model, feeds)) == 0);
    };
    refused(layer("y = Identity(z)"), "is an output of the model");
    refused(layer("y = MatMul(z, head)"), "MatMul");
    refused(layer("y = Sigmoid(z)"), "Sigmoid");
    const ir::Model plain = layer("f = LayerNormalization <axis = -1> (z, g0, b0)\n  y = MatMul(f, head)");
    CHECK(runPass(plain, "norm", "rms", "{}").report.changed.size() == 3);
}

TEST_CASE("norms whose bias is no constant, or whose mean is used, are not fitted") {
    struct Case {
        const char *norm, *last, *reason;
        std::size_t changed;
    };
    // The sigmoid behind the stream: it keeps its mean, so that norms are fitted or stay.
    const Case with = GENERATE(
        Case{"m = LayerNormalization <axis = -1> (r, g1, b1)", "y = Sigmoid(z)", "", 2},
        Case{"w = Identity(b1)\n  m = LayerNormalization <axis = -1> (r, g1, w)", "y = Sigmoid(z)", "cannot be made zero", 1},
        Case{"m, mean = LayerNormalization <axis = -1> (r, g1, b1)", "w = Sigmoid(z)\n  y = Add(w, mean)", "second result", 1},
        Case{"m = LayerNormalization <axis = 1> (r, g1, b1)", "y = Sigmoid(z)", "more than the channels", 1});
    CAPTURE(with.norm);
    const ir::Model model = layer(with.last, with.norm);
    const data::Dataset calibration = data::syntheticDataset(model, 16, /*seed=*/1, {{"s", 6}});
    const auto [fitted, report] = runPass(model, "norm", "rms", R"({"max_error": 1})", &calibration);
    ir::validateStructure(fitted);
    CHECK(report.changed.size() == with.changed);
    const auto* skipped = test::skippedSite(report, "m");
    REQUIRE((skipped == nullptr) == std::string(with.reason).empty());
    if (skipped != nullptr) CHECK_THAT(skipped->reason, Catch::Contains(with.reason));
}

TEST_CASE("a stream of half floats keeps its LayerNorms") {
    const ir::Model model = test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (int64[b,s] ids) => (float[b,s,8] y)
<float[16,8] table, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo, float[8] g0, float[8] b0>
{
  rows = Cast <to = 10> (table)
  gain = Cast <to = 10> (g0)
  bias = Cast <to = 10> (b0)
  x = Gather(rows, ids)
  half = LayerNormalization <axis = -1> (x, gain, bias)
  n = Cast <to = 1> (half)
  q = MatMul(n, wq)
  k = MatMul(n, wk)
  v = MatMul(n, wv)
  t = Transpose <perm = [0, 2, 1]> (k)
  s = MatMul(q, t)
  p = Softmax <axis = -1> (s)
  c = MatMul(p, v)
  o = MatMul(c, wo)
  y = Add(n, o)
}
)");
    const auto [same, report] = runPass(model, "norm", "rms", "{}");
    CHECK(report.changed.empty());
    REQUIRE(report.skipped.size() == 1);
    CHECK_THAT(report.skipped.front().reason, Catch::Contains("'x' is not float32"));
}

TEST_CASE("a vector along another axis than the channels is not centred in their place") {
    // [b, 8, 2, 8]: the vector lies along the columns of a picture of as many columns as channels.
    const std::string vector = GENERATE("columns", "channels");
    CAPTURE(vector);
    const ir::Model model = test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (float[b,3,2,8] picture) => (float[b,16,8] y)
<float[8,3,1,1] patches, float[8] columns, float[8,1,1] channels, int64[3] flat = {0, 8, 16}, float[8,8] wq, float[8,8] wk, float[8,8] wv,
 float[8,8] wo, float[8] g0, float[8] b0, float[8] g1, float[8] b1, float[8,8] head>
{
  c = Conv(picture, patches)
  a = Add(c, )" + vector + R"()
  f = Reshape(a, flat)
  x = Transpose <perm = [0, 2, 1]> (f)
  n = LayerNormalization <axis = -1> (x, g0, b0)
  q = MatMul(n, wq)
  k = MatMul(n, wk)
  v = MatMul(n, wv)
  t = Transpose <perm = [0, 2, 1]> (k)
  s = MatMul(q, t)
  p = Softmax <axis = -1> (s)
  o = MatMul(p, v)
  d = MatMul(o, wo)
  z = Add(x, d)
  e = LayerNormalization <axis = -1> (z, g1, b1)
  y = MatMul(e, head)
}
)");
    const auto [changed, report] = runPass(model, "norm", "rms", "{}");
    CHECK(report.changed.size() == (vector == "channels" ? 2 : 0));
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(changed, feeds), test::outputsOf(model, feeds)) < 1e-5);
}

TEST_CASE("a table that is the output head too is centred where it is looked up") {
    const ir::Model model = test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (int64[b,s] ids) => (float[b,s,16] y)
<float[16,8] table, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo, float[8] g0, float[8] b0, float[8] g1, float[8] b1>
{)" + kAttention + R"(
  z = Add(x, o)
  f = LayerNormalization <axis = -1> (z, g1, b1)
  head = Transpose <perm = [1, 0]> (table)
  y = MatMul(f, head)
}
)");
    const auto [changed, report] = runPass(model, "norm", "rms", "{}");
    CHECK(report.changed.size() == 2);
    CHECK(report.notes.size() == 1);
    CHECK(test::countOf(changed, "Sub") == 1);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(changed, feeds), test::outputsOf(model, feeds)) < 1e-5);
}

TEST_CASE("in post-norm models gains and biases are fitted to what the mean gave") {
    const ir::Model model = test::dataModel("bert_tiny");
    const auto [exact, without] = runPass(model, "norm", "rms", "{}");
    // Tables are centred; behind them the stream has a mean of its own.
    CHECK(without.changed.size() == 1);
    CHECK(without.skipped.size() == 4);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(exact, feeds), test::outputsOf(model, feeds)) < 2e-5);

    const data::Dataset calibration = data::syntheticDataset(model, 16, /*seed=*/1, {{"sequence", 12}});
    const data::Dataset other = data::syntheticDataset(model, 8, /*seed=*/2, {{"sequence", 12}});
    const auto [fitted, report] = runPass(model, "norm", "rms", R"({"max_error": 0.2})", &calibration);
    CHECK(report.changed.size() > 2);
    CHECK(test::outputError(model, fitted, other) < 5e-2);
    for (const auto& site : report.changed) CHECK(site.error < 0.2);
    const auto [strict, refusals] = runPass(model, "norm", "rms", R"({"max_error": 0})", &calibration);
    CHECK(refusals.changed.size() == 1);
    CHECK(refusals.skipped.size() == 4);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(fitted, feeds), test::runtimeOutputsOf(fitted, feeds)) < 1e-4);
}
