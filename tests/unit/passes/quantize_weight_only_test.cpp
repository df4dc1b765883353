// Weight-only quantization: the model must compute exactly what the original computes with its weights
// replaced by the dequantized ones.

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "lib/ir/edit.h"
#include "lib/ir/validate.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::countOf;
using test::modelWithWeights;
using test::runPass;
using test::skippedSite;

namespace {

constexpr const char* kWeightOnly = "weight-only";

const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[B,T] ids, float[1,6,9,9] image) => (float[B,T,45] y, float[1,16,7,7] d)
    <float table = {0}, float w1 = {0}, float w2 = {0}, float kernel = {0}>
    {
        [lookup] rows = Gather(table, ids)
        [first] h = MatMul(rows, w1)
        flat_shape = Constant<value_ints = [-1, 50]>()
        flat = Reshape(h, flat_shape)
        [second] g2 = Gemm<transB = 1>(flat, w2)
        s = Shape(ids)
        last = Constant<value_ints = [45]>()
        back = Concat<axis = 0>(s, last)
        y = Reshape(g2, back)
        [conv] d = Conv(image, kernel)
    })";
const std::map<std::string, Shape> kWeights = {
    {"table", {30, 40}}, {"w1", {40, 50}}, {"w2", {45, 50}}, {"kernel", {16, 6, 4, 3}}};

struct Variant {
    std::string options;
    passes::QuantizationRule rule;
    std::int64_t group;  ///< 0: per channel
};

passes::QuantizationRule ruleOf(int bits, passes::Symmetry symmetry, passes::RangeChoice range,
                                DType scaleType = DType::float16) {
    passes::QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = symmetry;
    rule.range = range;
    rule.scaleType = scaleType;
    return rule;
}

std::vector<Variant> variants() {
    using passes::RangeChoice;
    using passes::Symmetry;
    return {
        {R"({})", ruleOf(8, Symmetry::asymmetric, RangeChoice::minmax), 0},
        {R"({"symmetric": true})", ruleOf(8, Symmetry::balanced, RangeChoice::minmax), 0},
        {R"({"group_size": 16, "scale_type": "float32"})",
         ruleOf(8, Symmetry::asymmetric, RangeChoice::minmax, DType::float32), 16},
        {R"({"bits": 4})", ruleOf(4, Symmetry::asymmetric, RangeChoice::mse), 32},
        {R"({"bits": 4, "symmetric": true})", ruleOf(4, Symmetry::fullRange, RangeChoice::mse), 32},
        {R"({"bits": 4, "block_size": 16, "observer": "minmax"})",
         ruleOf(4, Symmetry::asymmetric, RangeChoice::minmax), 16},
        {R"({"bits": 4, "group_size": -1})", ruleOf(4, Symmetry::asymmetric, RangeChoice::mse), 0},
        {R"({"bits": 4, "group_size": -1, "symmetric": true})",
         ruleOf(4, Symmetry::fullRange, RangeChoice::mse), 0},
        {R"({"bits": 6})", ruleOf(6, Symmetry::asymmetric, RangeChoice::mse), 32},
        {R"({"bits": 5, "symmetric": true, "group_size": 16})",
         ruleOf(5, Symmetry::fullRange, RangeChoice::mse), 16},
        {R"({"bits": 3, "group_size": -1})", ruleOf(3, Symmetry::asymmetric, RangeChoice::mse), 0},
        {R"({"bits": 2, "group_size": 16, "scale_type": "float32"})",
         ruleOf(2, Symmetry::asymmetric, RangeChoice::mse, DType::float32), 16},
        {R"({"bits": 4, "format": "packed"})", ruleOf(4, Symmetry::asymmetric, RangeChoice::mse), 32},
        {R"({"format": "packed", "symmetric": true})", ruleOf(8, Symmetry::balanced, RangeChoice::minmax), 0},
        {R"({"bits": 2, "ternary": true})", ruleOf(2, Symmetry::balanced, RangeChoice::mse), 32},
        {R"({"bits": 1, "group_size": 64})", ruleOf(1, Symmetry::asymmetric, RangeChoice::mse), 64},
        {R"({"bits": 1, "group_size": -1})", ruleOf(1, Symmetry::asymmetric, RangeChoice::mse), 0},
        {R"({"bits": 1, "symmetric": true})", ruleOf(1, Symmetry::balanced, RangeChoice::mse), 32},
    };
}

/// The original with the weight replaced by what its codes stand for; `in` is the summed axis.
void replaceByDequantized(ir::Edit& edit, ir::Value* weight, std::size_t in, const Variant& variant) {
    const Tensor& tensor = *weight->constant();
    Shape shape = tensor.shape();
    if (shape.size() > 2) {
        shape = {shape[0], elementCount(shape) / shape[0]};
        in = 1;
    }
    const bool perChannel = variant.group == 0 || tensor.rank() > 2;
    const std::int64_t block = perChannel ? shape[in] : std::min(variant.group, shape[in]);
    const auto quantized =
        passes::quantizeWeights(tensor.data<float>(), passes::groupedLayout(shape, in, block), variant.rule);
    REQUIRE(quantized);
    const std::vector<float> values = passes::dequantizeWeights(*quantized);
    edit.setConstant(weight, Tensor::of<float>(tensor.shape(), std::span<const float>(values)));
}

}  // namespace

TEST_CASE("A weight-only model computes with the dequantized weights") {
    const ir::Model model = modelWithWeights(kText, kWeights);
    const Variant variant = GENERATE(from_range(variants()));
    INFO(variant.options);
    const auto [quantized, report] = runPass(model, "quantize", kWeightOnly, variant.options);
    ir::validateStructure(quantized);
    CHECK(report.changed.size() == 4);
    CHECK(report.skipped.empty());
    const bool packed = variant.options.find("packed") != std::string::npos ||
                        (variant.rule.bits != 4 && variant.rule.bits != 8);
    CHECK((countOf(quantized, "DequantizeLinear") == 0) == packed);
    CHECK(quantized.opset() == (!packed && (variant.rule.bits == 4 || variant.group > 0) ? 21 : 17));
    const auto bytes = [](const ir::Model& of) {
        std::size_t sum = 0;
        for (const ir::Value* value : of.graph().initializers()) sum += value->constant()->sizeBytes();
        return sum;
    };
    CHECK(bytes(quantized) < bytes(model) * static_cast<std::size_t>(variant.rule.bits + 6) / 32);
    for (const ir::Value* value : quantized.graph().initializers())
        if (value->dtype() == DType::float32) CHECK(value->constant()->size() < 1000);

    ir::Model expected = model.clone();
    ir::Edit edit(expected, "test");
    for (const auto& [name, in] :
         std::map<std::string, std::size_t>{{"table", 1}, {"w1", 0}, {"w2", 1}, {"kernel", 1}})
        replaceByDequantized(edit, expected.graph().find(name), in, variant);
    edit.commit();

    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({2, 3}, {0, 29, 5, 5, 1, 28})},
                            {"image", test::randomTensor({1, 6, 9, 9}, 31, 1.0)}};
    const auto outputs = test::outputsOf(quantized, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(expected, feeds)) < 1e-5);
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) < (variant.rule.bits == 8   ? 0.03
                                                                             : variant.rule.bits <= 2 ? 2.0
                                                                                                      : 0.5));
    // ONNX Runtime quantizes the activations of 4- and 8-bit products too, but not of unpacked ones.
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(quantized, feeds)) <
              (packed ? 1e-5 : 0.03));
}

TEST_CASE("Rows are looked up before they are dequantized") {
    const int bits = GENERATE(8, 6, 5, 4, 3, 2, 1);
    const auto [model, report] = runPass(modelWithWeights(kText, kWeights), "quantize", kWeightOnly,
                                         R"({"targets": ["lookup"], "bits": )" + std::to_string(bits) + "}");
    REQUIRE(report.changed.size() == 1);
    CHECK(model.opset() == 17);
    CHECK(countOf(model, "DequantizeLinear") == 0);
    for (const auto& node : model.graph().nodes()) {
        if (!node->is("Gather")) continue;
        CHECK(node->input(0)->constant() != nullptr);
        CHECK(node->input(0)->dtype() != DType::float32);
    }
}

TEST_CASE("A table that is the last layer's weight too is dequantized for both") {
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] ids) => (float[N,60] logits)
        <float table = {0}>
        {
            [lookup] rows = Gather(table, ids)
            t = Transpose<perm = [1, 0]>(table)
            [head] logits = MatMul(rows, t)
        })";
    const ir::Model model = modelWithWeights(text, {{"table", {60, 32}}});
    const auto [quantized, report] = runPass(model, "quantize", kWeightOnly, R"({"bits": 4})");
    CHECK(report.changed.size() == 2);
    CHECK(countOf(quantized, "DequantizeLinear") == 1);
    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({3}, {0, 59, 7})}};
    CHECK(test::largestDifference(test::outputsOf(quantized, feeds), test::outputsOf(model, feeds)) < 0.3);
}

TEST_CASE("A weight that is quantized already is left alone, and said to be") {
    const std::string options =
        GENERATE(R"({"bits": 5})", R"({"bits": 8})", R"({"format": "packed", "bits": 4})");
    const auto first = runPass(modelWithWeights(kText, kWeights), "quantize", kWeightOnly, options);
    const std::string method = GENERATE("weight-only", "dynamic", "hqq");
    const auto second = runPass(first.model, "quantize", method, "{}");
    INFO(options << " then " << method);
    CHECK(second.report.changed.empty());
    for (const char* site : {"first", "second"}) {
        REQUIRE(skippedSite(second.report, site) != nullptr);
        CHECK_THAT(skippedSite(second.report, site)->reason, Catch::Contains("already quantized"));
    }
}

TEST_CASE("ONNX Runtime's own operators hold the same weights") {
    const int bits = GENERATE(4, 8);
    const bool symmetric = GENERATE(false, true);
    const std::string common = R"("group_size": 16, "bits": )" + std::to_string(bits) + R"(, "symmetric": )" +
                               (symmetric ? "true" : "false");
    const char* const text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[B,T] ids) => (float[B,T,45] y)
        <float table = {0}, float w1 = {0}, float w2 = {0}>
        {
            [lookup] rows = Gather(table, ids)
            [first] h = MatMul(rows, w1)
            t = Transpose(w2)
            [second] y = MatMul(h, t)
        })";
    const ir::Model model = modelWithWeights(text, {{"table", {30, 48}}, {"w1", {48, 50}}, {"w2", {45, 50}}});
    const auto contrib = runPass(model, "quantize", kWeightOnly, R"({"format": "contrib", )" + common + "}");
    const auto packed = runPass(model, "quantize", kWeightOnly, R"({"format": "packed", )" + common + "}");
    ir::validateStructure(contrib.model);
    CHECK(contrib.report.changed.size() == 3);
    CHECK(countOf(contrib.model, "MatMulNBits") == 2);
    CHECK(countOf(contrib.model, "GatherBlockQuantized") == 1);
    const test::Feeds feeds{{"ids", Tensor::of<std::int64_t>({2, 3}, {0, 29, 5, 5, 1, 28})}};
    const auto outputs = test::outputsOf(contrib.model, feeds);
    // Rows of float16 scales are float16 there.
    CHECK(test::largestDifference(outputs, test::outputsOf(packed.model, feeds)) < 2e-3);
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(contrib.model, feeds)) < 0.03);
}

TEST_CASE("Options that cannot be are refused at their place") {
    CHECK_THROWS_WITH(test::makePass("quantize", kWeightOnly, R"({"bits": 7})"),
                      Catch::Contains("/passes/0/bits") && Catch::Contains("2 and 1"));
    CHECK_THROWS_WITH(test::makePass("quantize", kWeightOnly, R"({"ternary": true})"),
                      Catch::Contains("/passes/0/ternary") && Catch::Contains("2 bits"));
    CHECK_THROWS_WITH(test::makePass("quantize", kWeightOnly, R"({"bits": 5, "format": "qdq"})"),
                      Catch::Contains("/passes/0/format") && Catch::Contains("5-bit"));
    CHECK_THROWS_WITH(test::makePass("quantize", kWeightOnly, R"({"group_size": 8})"),
                      Catch::Contains("/passes/0/group_size"));
}

TEST_CASE("Real models compute with the dequantized weights, in ONNX Runtime too") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "gpt2_char_kv", "llama_char", "llama_char_kv",
                                      "t5_char_decoder", "t5_char_encoder", "vit_digits", "bert_tiny_fused");
    const Variant variant = variants()[GENERATE(std::size_t{0}, std::size_t{3}, std::size_t{8}, std::size_t{14})];
    const ir::Model model = test::dataModel(name);
    INFO(name << " " << variant.options);
    const auto [quantized, report] = runPass(model, "quantize", kWeightOnly, variant.options);
    ir::validateStructure(quantized);
    CHECK_FALSE(report.changed.empty());

    ir::Model expected = model.clone();
    const analysis::TransformerView view = analysis::recognise(expected);
    ir::Edit edit(expected, "test");
    std::set<const ir::Value*> done;
    for (const auto& changed : report.changed) {
        const auto site = std::find_if(view.sites.begin(), view.sites.end(),
                                       [&](const auto& candidate) { return candidate.name == changed.site; });
        REQUIRE(site != view.sites.end());
        if (!done.insert(site->weight).second) continue;
        replaceByDequantized(edit, site->weight, site->node->is("Gather") ? site->outAxis : site->inAxis,
                             variant);
    }
    edit.commit();

    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(quantized, feeds);
    CHECK(test::largestDifference(outputs, test::outputsOf(expected, feeds)) < 1e-4);
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(quantized, feeds)) < 0.05);
}
