// Truncated SVD: the best approximation of its rank, where it is smaller.

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

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
    g (float[N,40] x) => (float[N,40] y)
    <float up = {0}, float down = {0}, float square = {0}, float c = {0}>
    {
        [up] h = MatMul(x, up)
        [down] d = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(h, down, c)
        [square] y = MatMul(d, square)
    })";
const std::map<std::string, Shape> kWeights = {
    {"up", {40, 100}}, {"down", {40, 100}}, {"square", {40, 40}}, {"c", {40}}};

/// The product of the two matrices that stand for a layer, in the layer's own orientation [in, out].
std::vector<double> productOf(const ir::Node& node) {
    const Tensor second = *node.input(1)->constant();
    const Tensor first = *node.input(0)->producer()->input(1)->constant();
    const auto m = static_cast<std::size_t>(first.shape()[0]), r = static_cast<std::size_t>(first.shape()[1]);
    const auto n = static_cast<std::size_t>(second.shape()[1]);
    std::vector<double> product(m * n);
    for (std::size_t i = 0; i < m; ++i)
        for (std::size_t k = 0; k < r; ++k)
            for (std::size_t j = 0; j < n; ++j)
                product[i * n + j] += static_cast<double>(first.data<float>()[i * r + k]) *
                                      static_cast<double>(second.data<float>()[k * n + j]);
    return product;
}

double relativeError(const std::vector<double>& product, const Tensor& weight) {
    double lost = 0, all = 0;
    const auto values = weight.data<float>();
    for (std::size_t i = 0; i < product.size(); ++i) {
        lost += std::pow(product[i] - values[i], 2);
        all += std::pow(static_cast<double>(values[i]), 2);
    }
    return std::sqrt(lost / all);
}

const ir::Node& nodeNamed(const ir::Model& model, const std::string& name) {
    for (const auto& node : model.graph().nodes())
        if (node->name() == name) return *node;
    FAIL("no node " << name);
    throw 0;
}

}  // namespace

TEST_CASE("The reported error is that of the two matrices' product") {
    const ir::Model model = modelWithWeights(kText, kWeights);
    const std::string options = GENERATE(R"({"rank": 8})", R"({"rank_ratio": 0.5, "multiple": 1})",
                                         R"({"keep": 0.6})", R"({"energy": 0.7})");
    INFO(options);
    const auto [thin, report] = runPass(model, "low-rank", "svd", options);
    ir::validateStructure(thin);
    REQUIRE(report.changed.size() >= 2);
    for (const auto& changed : report.changed) {
        const Tensor& stored = *model.graph().find(changed.site)->constant();
        const Tensor weight = changed.site == "down" ? transpose(stored, {1, 0}) : stored;
        CHECK(changed.error ==
              Approx(relativeError(productOf(nodeNamed(thin, changed.site)), weight)).epsilon(1e-4));
    }
    CHECK(thin.constantBytes() < model.constantBytes());
    const test::Feeds feeds{{"x", test::randomTensor({6, 40}, 3, 1.0)}};
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(thin, feeds), test::runtimeOutputsOf(thin, feeds)) <
              1e-4);
}

TEST_CASE("Nearly the full rank gives nearly the same outputs") {
    const ir::Model model = modelWithWeights(kText, kWeights);
    ir::Model lowRank = model.clone();
    // up = a · b of rank 12: rank 12 keeps everything.
    const Tensor a = test::randomTensor({40, 12}, 50), b = test::randomTensor({12, 100}, 51);
    Tensor up(DType::float32, {40, 100});
    for (std::size_t i = 0; i < 40; ++i)
        for (std::size_t j = 0; j < 100; ++j)
            for (std::size_t k = 0; k < 12; ++k)
                up.mutableData<float>()[i * 100 + j] +=
                    a.data<float>()[i * 12 + k] * b.data<float>()[k * 100 + j];
    ir::Edit edit(lowRank, "test");
    edit.setConstant(lowRank.graph().find("up"), up);
    edit.commit();
    const auto [thin, report] = runPass(lowRank, "low-rank", "svd", R"({"rank": 12, "targets": ["up"]})");
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed[0].error < 1e-5);
    const test::Feeds feeds{{"x", test::randomTensor({6, 40}, 3, 1.0)}};
    CHECK(test::largestDifference(test::outputsOf(thin, feeds), test::outputsOf(lowRank, feeds)) < 1e-5);
}

TEST_CASE("A matrix that two factors would not shrink stays") {
    const ir::Model model = modelWithWeights(kText, kWeights);
    const auto [thin, report] = runPass(model, "low-rank", "svd", R"({"rank_ratio": 0.5, "multiple": 4})");
    CHECK(report.changed.size() == 2);
    REQUIRE(skippedSite(report, "square") != nullptr);
    CHECK(skippedSite(report, "square")->reason ==
          "rank 20 would take 1600 parameters, and the matrix has 1600");
}

TEST_CASE("Energy keeps at least its share and rounds up") {
    const auto [thin, report] =
        runPass(modelWithWeights(kText, kWeights), "low-rank", "svd", R"({"energy": 0.5, "multiple": 8})");
    REQUIRE_FALSE(report.changed.empty());
    for (const auto& changed : report.changed) {
        CHECK(changed.error * changed.error <= 0.5);
        CHECK(nodeNamed(thin, changed.site).input(1)->shape()->at(0) % 8 == 0);
    }
}

TEST_CASE("A table is factorised only when it is named") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] ids) => (float[N,30] y)
        <float table = {0}, float w = {0}>
        {
            [lookup] rows = Gather(table, ids)
            [layer] y = MatMul(rows, w)
        })";
    const ir::Model model = modelWithWeights(text, {{"table", {200, 40}}, {"w", {40, 30}}});
    const auto plain = runPass(model, "low-rank", "svd", R"({"rank": 4})");
    CHECK(plain.report.changed.size() == 1);
    REQUIRE(skippedSite(plain.report, "lookup") != nullptr);

    const auto named = runPass(model, "low-rank", "svd", R"({"rank": 16, "targets": ["lookup", "layer"]})");
    CHECK(named.report.changed.size() == 2);
    ir::validateStructure(named.model);
    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({3}, {0, 199, 5})}};
    const auto before = test::outputsOf(model, feeds), after = test::outputsOf(named.model, feeds);
    CHECK(test::largestDifference(after, before) < 1.0);
    const auto gathers = countOf(named.model, "Gather");
    CHECK(gathers == 1);
    if (test::haveJudge())
        CHECK(test::largestDifference(after, test::runtimeOutputsOf(named.model, feeds)) < 1e-4);
}

TEST_CASE("NaN is a reason to skip, and exactly one size is asked for") {
    ir::Model model = modelWithWeights(kText, kWeights);
    ir::Edit edit(model, "test");
    Tensor broken = *model.graph().find("up")->constant();
    broken.mutableData<float>()[5] = std::numeric_limits<float>::quiet_NaN();
    edit.setConstant(model.graph().find("up"), broken);
    edit.commit();
    const auto [thin, report] = runPass(model, "low-rank", "svd", R"({"rank": 8})");
    CHECK(skippedSite(report, "up") != nullptr);
    CHECK(report.changed.size() == 2);
    CHECK_THROWS_WITH(test::makePass("low-rank", "svd", "{}"), Catch::Contains("exactly one"));
    CHECK_THROWS_WITH(test::makePass("low-rank", "svd", R"({"rank": 8, "keep": 0.5})"),
                      Catch::Contains("2 are given"));
}
