// Equal and nearly equal matrices are stored once.

#include <catch2/catch.hpp>

#include "lib/ir/edit.h"
#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::runPass;

TEST_CASE("tied embeddings that are written out twice are stored once") {
    const ir::Model model = test::dataModel("gpt2_char");
    const auto [shared, report] = runPass(model, "share-parameters", "tensors", "{}");
    ir::validateStructure(shared);
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed[0].error == 0);
    CHECK(report.changed[0].change.find("transposed") != std::string::npos);
    // 96 symbols of 64 values.
    CHECK(model.constantBytes() - shared.constantBytes() >= 96 * 64 * 4);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(shared, feeds), test::outputsOf(model, feeds)) == 0);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(model, feeds), test::runtimeOutputsOf(shared, feeds)) < 1e-4);
}

TEST_CASE("nearly equal matrices become one within the tolerance only") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,40] x) => (float[N,30] y)
        <float a = {0}, float b = {0}, float c = {0}>
        {
            [first] u = MatMul(x, a)
            [second] v = MatMul(u, b)
            [third] y = MatMul(v, c)
        })";
    ir::Model model = test::modelWithWeights(text, {{"a", {40, 40}}, {"b", {40, 40}}, {"c", {40, 30}}});
    ir::Edit edit(model, "test");
    Tensor near = *model.graph().find("a")->constant();
    // One weight moved: the relative difference is 0.1 over the norm.
    near.mutableData<float>()[7] += 0.1F;
    edit.setConstant(model.graph().find("b"), near);
    edit.commit();
    double squares = 0;
    for (const float value : model.graph().find("a")->constant()->data<float>()) squares += static_cast<double>(value) * value;
    const double difference = 0.1 / std::sqrt(squares);

    const auto exact = runPass(model, "share-parameters", "tensors", "{}");
    CHECK(exact.report.changed.empty());
    const auto tight = runPass(model, "share-parameters", "tensors", R"({"tolerance": )" + std::to_string(0.9 * difference) + "}");
    CHECK(tight.report.changed.empty());
    const auto [shared, report] =
        runPass(model, "share-parameters", "tensors", R"({"tolerance": )" + std::to_string(1.1 * difference) + "}");
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed[0].site == "second");
    CHECK(report.changed[0].error == Approx(difference).epsilon(1e-4));
    CHECK(shared.constantBytes() == model.constantBytes() - 40 * 40 * 4);
}
