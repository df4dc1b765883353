// Dynamic int8 quantization: what the graph becomes, that it computes what its parts mean, and what is left
// alone.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/quantize.h"
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

constexpr const char* kDynamic = "dynamic";

/// Two layers that read x, and one behind: Gemm with transB, alpha and beta.
const char* const kLayers = R"(
    <ir_version: 8, opset_import: ["" : 13]>
    g (float[N,40] x) => (float[N,48] p, float[N,30] y)
    <float w1 = {0}, float w2 = {0}, float w3 = {0}, float b1 = {0}, float c = {0}>
    {
        [first] m = MatMul(x, w1)
        p = Add(m, b1)
        [second] q = MatMul(x, w2)
        [third] y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(q, w3, c)
    })";
const std::map<std::string, Shape> kLayerWeights = {
    {"w1", {40, 48}}, {"w2", {40, 50}}, {"w3", {30, 50}}, {"b1", {48}}, {"c", {30}}};

std::vector<float> fakeQuantized(const std::vector<float>& x) {
    std::vector<std::uint8_t> codes(x.size());
    const kernels::UInt8Parameters parameters = kernels::dynamicQuantizeLinear(x, codes);
    std::vector<float> result;
    for (std::uint8_t code : codes)
        result.push_back(static_cast<float>(code - parameters.zeroPoint) * parameters.scale);
    return result;
}

/// Scales are stored as float16, rounded up.
double halfAtLeast(float scale) {
    Half half = toHalf(scale);
    if (toFloat(half) < scale) ++half.bits;
    return toFloat(half);
}

/// x · w with x [rows, k] and w [k, n] rounded to int8 per column, both written out.
std::vector<double> quantizedProduct(const std::vector<float>& x, const Tensor& w, int limit = 127) {
    const auto k = static_cast<std::size_t>(w.shape()[0]), n = static_cast<std::size_t>(w.shape()[1]);
    const auto weights = w.data<float>();
    const std::vector<float> inputs = fakeQuantized(x);
    std::vector<double> result(x.size() / k * n);
    for (std::size_t column = 0; column < n; ++column) {
        double largest = 0;
        for (std::size_t i = 0; i < k; ++i)
            largest = std::max(largest, static_cast<double>(std::fabs(weights[i * n + column])));
        const double scale = halfAtLeast(static_cast<float>(largest) / static_cast<float>(limit));
        for (std::size_t row = 0; row < x.size() / k; ++row)
            for (std::size_t i = 0; i < k; ++i)
                result[row * n + column] +=
                    inputs[row * k + i] * std::nearbyint(weights[i * n + column] / scale) * scale;
    }
    return result;
}

}  // namespace

TEST_CASE("Layers with one input share its quantization, and the sums are those of the parts") {
    const ir::Model model = modelWithWeights(kLayers, kLayerWeights);
    const auto [quantized, report] = runPass(model, "quantize", kDynamic, R"({"target_isa": "vnni"})");
    ir::validateStructure(quantized);
    CHECK(report.changed.size() == 3);
    CHECK(report.skipped.empty());
    CHECK(countOf(quantized, "DynamicQuantizeLinear") == 2);
    CHECK(countOf(quantized, "MatMulInteger") == 3);
    CHECK(countOf(quantized, "MatMul") + countOf(quantized, "Gemm") == 0);
    for (const auto& changed : report.changed) CHECK((changed.error > 0 && changed.error < 0.02));

    const test::Feeds feeds{{"x", test::randomTensor({5, 40}, 77, 1.0)}};
    const auto outputs = test::outputsOf(quantized, feeds);
    const auto expected = quantizedProduct(toFloat32(feeds.at("x")), *model.graph().find("w1")->constant());
    const auto bias = model.graph().find("b1")->constant()->data<float>();
    for (std::size_t i = 0; i < expected.size(); ++i)
        CHECK(outputs[0].data<float>()[i] == Approx(expected[i] + bias[i % 48]).margin(1e-4));
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < 0.02);
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(quantized, feeds)) < 1e-5);
}

TEST_CASE("A reduced range keeps codes within 64") {
    const bool reduced = GENERATE(true, false);
    const std::string options = reduced ? R"({"target_isa": "avx2"})" : R"({"target_isa": "vnni"})";
    const auto [model, report] =
        runPass(modelWithWeights(kLayers, kLayerWeights), "quantize", kDynamic, options);
    int largest = 0;
    for (const ir::Value* value : model.graph().initializers())
        if (value->dtype() == DType::int8)
            for (std::int8_t code : value->constant()->data<std::int8_t>())
                largest = std::max(largest, std::abs(static_cast<int>(code)));
    CHECK(largest == (reduced ? 64 : 127));
    REQUIRE(report.notes.size() == 1);
    CHECK(report.notes[0].find(reduced ? "7 bits" : "8 bits") != std::string::npos);
}

TEST_CASE("With a reduced range processors that saturate sums of two products give the exact sums") {
    // VPMADDUBSW, which ONNX Runtime uses without VNNI: neighbouring products along the summed axis are added in 16 bits.
    const auto saturating = [](const std::vector<std::int32_t>& x, const Tensor& w, std::size_t column) {
        const auto codes = w.data<std::int8_t>();
        const auto n = static_cast<std::size_t>(w.shape()[1]);
        std::int32_t sum = 0, exact = 0;
        for (std::size_t k = 0; k < x.size(); k += 2) {
            std::int32_t pair = x[k] * codes[k * n + column];
            if (k + 1 < x.size()) pair += x[k + 1] * codes[(k + 1) * n + column];
            sum += std::clamp(pair, -32768, 32767);
            exact += pair;
        }
        return std::pair{sum, exact};
    };
    const bool reduced = GENERATE(true, false);
    const auto [model, report] = runPass(modelWithWeights(kLayers, kLayerWeights), "quantize", kDynamic,
                                         reduced ? R"({"target_isa": "avx2"})" : R"({"target_isa": "vnni"})");
    std::size_t wrong = 0, sums = 0;
    for (const ir::Value* value : model.graph().initializers()) {
        if (value->dtype() != DType::int8) continue;
        const Tensor& w = *value->constant();
        for (std::size_t column = 0; column < static_cast<std::size_t>(w.shape()[1]); ++column) {
            const std::vector<std::int32_t> largest(static_cast<std::size_t>(w.shape()[0]), 255);
            const auto [sum, exact] = saturating(largest, w, column);
            wrong += sum != exact ? 1 : 0;
            ++sums;
        }
    }
    CHECK(sums == 128);
    CHECK((wrong == 0) == reduced);
}

TEST_CASE("A table that is the last layer's weight too is stored once") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 13]>
        g (int64[N] ids) => (float[N,60] logits, float[N,32] rows)
        <float table = {0}>
        {
            [lookup] rows = Gather(table, ids)
            t = Transpose<perm = [1, 0]>(table)
            [head] logits = MatMul(rows, t)
        })";
    const ir::Model model = modelWithWeights(text, {{"table", {60, 32}}});
    const auto [quantized, report] = runPass(model, "quantize", kDynamic, "{}");
    CHECK(report.changed.size() == 2);
    std::int64_t bytes = 0;
    for (const ir::Value* value : quantized.graph().initializers())
        if (value->dtype() == DType::int8) bytes += value->constant()->size();
    CHECK(bytes == 60 * 32);
    CHECK(countOf(quantized, "MatMulInteger") == 1);
    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({4}, {0, 59, 7, 7})}};
    const auto outputs = test::outputsOf(quantized, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < 0.02);
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(quantized, feeds)) < 1e-5);
}

TEST_CASE("Quantizing twice changes nothing and says why") {
    const auto first = runPass(modelWithWeights(kLayers, kLayerWeights), "quantize", kDynamic, "{}");
    const auto second = runPass(first.model, "quantize", kDynamic, "{}");
    CHECK(second.report.changed.empty());
    REQUIRE(skippedSite(second.report, "first") != nullptr);
    CHECK(skippedSite(second.report, "first")->reason.find("already quantized") != std::string::npos);
}

TEST_CASE("What cannot be quantized is left alone with the reason") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[40,N] x, float[1,8,9,9] image) => (float[40,N] a, float[N,40] b, float[N,4] c, float[1,16,7,7] d)
        <float w1 = {0}, float w2 = {0}, float w3 = {0}, float kernel = {0}>
        {
            [left] a = MatMul(w1, x)
            t = Transpose(x)
            [broken] b = MatMul(t, w2)
            [small] c = MatMul(t, w3)
            [conv] d = Conv(image, kernel)
        })";
    ir::Model model = modelWithWeights(
        text, {{"w1", {40, 40}}, {"w2", {40, 40}}, {"w3", {40, 4}}, {"kernel", {16, 8, 3, 3}}});
    ir::Edit edit(model, "test");
    Tensor broken = *model.graph().find("w2")->constant();
    broken.mutableData<float>()[7] = std::numeric_limits<float>::quiet_NaN();
    edit.setConstant(model.graph().find("w2"), broken);
    edit.commit();
    const auto [after, report] = runPass(model, "quantize", kDynamic, "{}");
    CHECK(report.changed.empty());
    const auto reason = [&](const char* site) {
        const auto* skipped = skippedSite(report, site);
        return skipped == nullptr ? std::string("not skipped") : skipped->reason;
    };
    CHECK(reason("left") == "its weight is the left operand");
    CHECK(reason("broken") == "its weight holds NaN or infinity");
    CHECK(reason("small") == "its 160 values are too few to gain from it");
    CHECK(reason("conv") == "Conv has no dynamic integer form that ONNX Runtime fuses");
    CHECK(ir::modelToProto(after, ir::WeightData::embed).SerializeAsString() ==
          ir::modelToProto(model, ir::WeightData::embed).SerializeAsString());
}

TEST_CASE("A weight that an ignored site needs stays as it is") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N,40] x) => (float[N,40] y)
        <float w = {0}>
        {
            [one] h = MatMul(x, w)
            [two] y = MatMul(h, w)
        })";
    const ir::Model model = modelWithWeights(text, {{"w", {40, 40}}});
    const auto [partly, report] = runPass(model, "quantize", kDynamic, R"({"ignore": ["two"]})");
    CHECK(report.changed.empty());
    REQUIRE(skippedSite(report, "one") != nullptr);
    CHECK(skippedSite(report, "one")->reason.find("shared with 'two'") != std::string::npos);

    const auto [both, all] = runPass(model, "quantize", kDynamic, "{}");
    CHECK(all.changed.size() == 2);
    CHECK(countOf(both, "MatMulInteger") == 2);
    std::size_t matrices = 0;
    for (const ir::Value* value : both.graph().initializers()) matrices += value->dtype() == DType::int8;
    CHECK(matrices == 1);
    const test::Feeds feeds{{"x", test::randomTensor({3, 40}, 5, 1.0)}};
    CHECK(test::largestDifference(test::outputsOf(both, feeds), test::outputsOf(model, feeds)) < 0.02);
}

TEST_CASE("Real models stay close, and ONNX Runtime computes the same") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "gpt2_char_kv", "llama_char",
                                      "t5_char_decoder", "t5_char_encoder", "vit_digits", "bert_tiny_fused");
    const ir::Model model = test::dataModel(name);
    const auto [quantized, report] = runPass(model, "quantize", kDynamic, "{}");
    INFO(name);
    ir::validateStructure(quantized);
    CHECK_FALSE(report.changed.empty());
    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(quantized, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < 0.15);
    // An activation on the edge between two codes may fall either way: one quantum somewhere.
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(quantized, feeds)) < 0.02);
}
