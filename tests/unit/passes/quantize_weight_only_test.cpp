// Weight-only quantization: the model must compute exactly what the original computes with its weights
// replaced by the dequantized ones.

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>

#include "lib/ir/edit.h"
#include "lib/ir/validate.h"
#include "passes/quantize/group_quantizer.h"
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
    CHECK(quantized.opset() == (variant.rule.bits == 4 || variant.group > 0 ? 21 : 17));
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
    CHECK(test::largestDifference(outputs, test::outputsOf(model, feeds)) <
          (variant.rule.bits == 8 ? 0.03 : 0.5));
    // ONNX Runtime quantizes the activations of 4- and 8-bit products too.
    if (test::haveJudge())
        CHECK(test::largestDifference(outputs, test::runtimeOutputsOf(quantized, feeds)) < 0.03);
}

TEST_CASE("Rows are looked up before they are dequantized") {
    const int bits = GENERATE(8, 4);
    const auto [model, report] =
        runPass(modelWithWeights(kText, kWeights), "quantize", kWeightOnly,
                bits == 8 ? R"({"targets": ["lookup"]})" : R"({"targets": ["lookup"], "bits": 4})");
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

TEST_CASE("Options that cannot be are refused at their place") {
    CHECK_THROWS_WITH(test::makePass("quantize", kWeightOnly, R"({"bits": 5})"),
                      Catch::Contains("/passes/0/bits") && Catch::Contains("8 and 4"));
    CHECK_THROWS_WITH(test::makePass("quantize", kWeightOnly, R"({"group_size": 8})"),
                      Catch::Contains("/passes/0/group_size"));
}

TEST_CASE("Real models compute with the dequantized weights, in ONNX Runtime too") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "gpt2_char_kv", "llama_char", "llama_char_kv",
                                      "t5_char_decoder", "t5_char_encoder", "vit_digits", "bert_tiny_fused");
    const Variant variant = variants()[GENERATE(std::size_t{0}, std::size_t{3})];
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
