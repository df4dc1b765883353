// Sensitivity: fewer bits do more damage, the layer that matters most shows, the model stays as it is.

#include "passes/quantize/mixed/sensitivity.h"

#include <catch2/catch.hpp>

#include "lib/support/error.h"
#include "tests/support/judge.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;

TEST_CASE("Damage grows as bits go, and is that of the weight alone") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,64] x) => (float[N,32] y)
        <float w1 = {0}, float w2 = {0}, float w3 = {0}>
        {
            [loud] a = MatMul(x, w1)
            [quiet] b = MatMul(x, w2)
            tenth = Constant<value_float = 0.01>()
            c = Mul(b, tenth)
            s = Add(a, c)
            [last] y = MatMul(s, w3)
        })";
    const ir::Model model =
        test::modelWithWeights(text, {{"w1", {64, 48}}, {"w2", {64, 48}}, {"w3", {48, 32}}});
    const data::Dataset samples({{"x", test::randomTensor({40, 64}, 3, 1.0)}}, std::nullopt, "test");
    passes::SensitivityRequest request;
    request.groupSize = 16;
    const auto found = passes::measureSensitivity(model, samples, request, silentProgress());
    REQUIRE(found.size() == 3);
    for (const auto& weight : found) {
        REQUIRE(weight.damages.size() == request.bits.size());
        for (std::size_t i = 1; i < weight.damages.size(); ++i) {
            CHECK(weight.damages[i].damage > weight.damages[i - 1].damage);
            CHECK(weight.damages[i].bytes < weight.damages[i - 1].bytes);
        }
    }
    CHECK(found[0].site == "loud");
    CHECK(found[0].weights == 64 * 48);
    CHECK(found[0].damages[3].damage > 100 * found[1].damages[3].damage);
    // 4 bits a weight, a float16 scale and a 4-bit zero point per 16.
    CHECK(found[0].damages[3].bytes == 64 * 48 / 2 + 64 * 48 / 16 * 2 + 64 * 48 / 32);
}

TEST_CASE("A model without floating-point outputs has no sensitivity") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,64] x) => (int64[N,1] best)
        <float w1 = {0}>
        {
            a = MatMul(x, w1)
            best = ArgMax<axis = -1>(a)
        })";
    const ir::Model model = test::modelWithWeights(text, {{"w1", {64, 48}}});
    const data::Dataset samples({{"x", test::randomTensor({4, 64}, 3, 1.0)}}, std::nullopt, "test");
    CHECK_THROWS_AS(passes::measureSensitivity(model, samples, {}, silentProgress()), PassError);
}
