// Double quantization: scales are exactly what codes and units give, what that loses is little, and the written
// model computes the same everywhere.

#include "passes/quantize/grid/scale_codes.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fmt/core.h>

#include "lib/ir/save.h"
#include "lib/support/error.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::runPass;

namespace {

QuantizedWeights quantized(const Tensor& weights, DType scaleType, int bits, Symmetry symmetry,
                           std::int64_t block) {
    QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = symmetry;
    rule.range = RangeChoice::mse;
    rule.scaleType = scaleType;
    return *quantizeWeights(weights.data<float>(), groupedLayout(weights.shape(), 0, block), rule);
}

}  // namespace

TEST_CASE("Scales of 8 bits are codes times units, and cost the weights little") {
    const auto [bits, symmetry] = GENERATE(table<int, Symmetry>({{4, Symmetry::asymmetric},
                                                                 {3, Symmetry::fullRange},
                                                                 {2, Symmetry::balanced},
                                                                 {8, Symmetry::balanced}}));
    // 300 columns of 3 blocks: 900 scales, the last unit is not full; the first column is zero.
    Tensor weights = test::randomTensor({80, 300}, 5);
    for (std::size_t row = 0; row < 80; ++row) weights.mutableData<float>()[row * 300] = 0;
    const QuantizedWeights exact = quantized(weights, DType::float32, bits, symmetry, 32),
                           coded = quantized(weights, DType::uint8, bits, symmetry, 32);
    REQUIRE(coded.scaleCodes.size() == 900);
    REQUIRE(coded.scaleUnits.size() == 4);
    for (std::size_t group = 0; group < 900; ++group) {
        const float unit = coded.scaleUnits[group / 256];
        const int code = symmetry == Symmetry::fullRange ? static_cast<std::int8_t>(coded.scaleCodes[group])
                                                         : coded.scaleCodes[group];
        CHECK(coded.scales[group] == static_cast<float>(code) * unit);
        if (group % 300 != 0) CHECK(std::fabs(coded.scales[group] - exact.scales[group]) <= unit * 0.5001F);
    }
    const std::vector<float> after = dequantizeWeights(coded);
    for (std::size_t row = 0; row < 80; ++row) CHECK(after[row * 300] == 0);
    CHECK(coded.relativeError < exact.relativeError * 1.03);
}

TEST_CASE("A model with 8-bit scales is smaller and the same in ONNX Runtime") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,96] x) => (float[N,200] y)
        <float w1 = {0}, float w2 = {0}>
        {
            a = MatMul(x, w1)
            b = Relu(a)
            y = Gemm<transB = 1>(b, w2)
        })";
    const ir::Model model = test::modelWithWeights(text, {{"w1", {96, 120}}, {"w2", {200, 120}}});
    const auto [format, bits, symmetric] = GENERATE(table<std::string, int, const char*>(
        {{"packed", 4, "false"}, {"packed", 3, "true"}, {"qdq", 4, "false"}, {"qdq", 8, "false"}}));
    const std::string method = GENERATE("weight-only", "hqq");
    const auto with = [&](const char* type) {
        return runPass(model, "quantize", method,
                       fmt::format(R"({{"format": "{}", "bits": {}, "symmetric": {}, "group_size": 16,
                                        "scale_type": "{}"}})",
                                   format, bits, symmetric, type))
            .model;
    };
    const ir::Model half = with("float16"), coded = with("uint8");
    // One byte less a group, a unit for each 256, the nodes that multiply.
    const std::int64_t groups = 6 * 120 + 200 * 8;
    CHECK(half.constantBytes() - coded.constantBytes() > static_cast<std::uint64_t>(groups * 8 / 10));
    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(coded, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(half, feeds)) < 0.1);
    if (test::haveJudge()) CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(coded, feeds)) < 1e-5);
}

TEST_CASE("8-bit scales are refused where the form reads scales as they are stored") {
    const ir::Model model = test::dataModel("vit_digits");
    CHECK_THROWS_WITH(runPass(model, "quantize", "weight-only",
                              R"({"bits": 4, "format": "contrib", "scale_type": "uint8"})"),
                      Catch::Contains("use format qdq or packed"));
    CHECK_THROWS_WITH(runPass(model, "quantize", "weight-only", R"({"bits": 1, "scale_type": "uint8"})"),
                      Catch::Contains("use float16"));
    const auto tables = runPass(test::dataModel("gpt2_char"), "quantize", "weight-only",
                                R"({"bits": 4, "scale_type": "uint8", "targets": ["op:Gather"]})");
    CHECK_FALSE(tables.report.changed.empty());
}
