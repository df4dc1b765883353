// Factors of channels: norms take them, layers pass them on, equalisation by them changes no output, and what does
// not let them through ends the path.

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/analysis/transformer_view.h"
#include "lib/ir/edit.h"
#include "passes/quantize/int8/equalization.h"
#include "passes/support/channel_map.h"
#include "passes/support/scaling_paths.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::countOf;
using test::modelWithWeights;

namespace {

std::vector<float> sample(std::size_t count, std::uint64_t seed, double deviation, float middle) {
    const Tensor tensor = test::randomTensor({static_cast<std::int64_t>(count)}, seed, deviation);
    std::vector<float> values(tensor.data<float>().begin(), tensor.data<float>().end());
    for (float& value : values) value += middle;
    return values;
}

/// The model whose product reads x · f + o.
ir::Model mapped(ir::Model model, const passes::ChannelMap& map) {
    ir::Node* product = nullptr;
    for (const auto& node : model.graph().nodes())
        if (node->is("MatMul")) product = node.get();
    const std::vector<const ir::Node*> readers{product};
    ir::Edit edit(model, "test");
    ir::Value* x = product->input(0);
    ir::Value* value = passes::mapChannels(edit, x, readers, map);
    if (value != x) edit.replaceInput(product, 0, value);
    edit.commit();
    return model;
}

/// The same by definition: Mul and Add on x.
ir::Model reference(ir::Model model, const passes::ChannelMap& map) {
    ir::Edit edit(model, "test");
    for (const auto& node : model.graph().nodes()) {
        if (!node->is("MatMul")) continue;
        ir::Value* value = node->input(0);
        const auto apply = [&](const char* type, const std::vector<float>& values) {
            if (values.empty()) return;
            ir::NodeSpec spec;
            spec.opType = type;
            spec.inputs = {value, edit.addInitializer("map", Tensor::of<float>({32}, std::span<const float>(values)))};
            value = edit.addNode(std::move(spec))->output();
        };
        apply("Mul", map.factors);
        apply("Add", map.offsets);
        edit.replaceInput(node.get(), 0, value);
    }
    edit.commit();
    return model;
}

const std::map<std::string, Shape> kNormWeights = {
    {"g", {32}}, {"b", {32}}, {"w", {32, 20}}};

std::string normModel(const std::string& body, const std::string& output = "float[N,20] y") {
    return R"(<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        m (float[N,32] x, float[N,32] skip) => ()" + output + R"()
        <float g = {0}, float b = {0}, float w = {0}> {)" + body + "}";
}

}  // namespace

TEST_CASE("A norm takes factors and offsets, and the graph keeps its operators") {
    const auto [body, takesOffsets] = GENERATE(table<std::string, bool>({
        {"n = LayerNormalization(x, g, b) y = MatMul(n, w)", true},
        {"n = LayerNormalization(x, g) y = MatMul(n, w)", true},
        {"s = Mul(x, g) n = Add(s, b) y = MatMul(n, w)", true},
        {"n = Mul(g, x) y = MatMul(n, w)", false},
        {"n, c, d, e = com.microsoft.SkipLayerNormalization(x, skip, g, b) y = MatMul(n, w)", true},
        {"n = com.microsoft.SimplifiedLayerNormalization(x, g) y = MatMul(n, w)", false},
    }));
    INFO(body);
    const ir::Model model = modelWithWeights(normModel(body), kNormWeights);
    const bool shifts = GENERATE(true, false);
    const passes::ChannelMap map{sample(32, 5, 0.3, 2.0F), shifts ? sample(32, 6, 1.0, 0.5F) : std::vector<float>{}};
    const ir::Model after = mapped(model.clone(), map);
    const test::Feeds feeds{{"x", test::randomTensor({3, 32}, 9, 1.0)}, {"skip", test::randomTensor({3, 32}, 10, 1.0)}};
    CHECK(test::largestDifference(test::outputsOf(after, feeds), test::outputsOf(reference(model.clone(), map), feeds)) <
          1e-6);
    const std::size_t more = shifts && !takesOffsets ? 1 : 0;
    CHECK(after.graph().nodes().size() == model.graph().nodes().size() + more);
}

TEST_CASE("What others read too is not scaled: the map becomes operators") {
    const auto [body, output] = GENERATE(table<std::string, std::string>({
        {"n = LayerNormalization(x, g, b) y = MatMul(n, w) z = Relu(n)", "float[N,20] y, float[N,32] z"},
        {"n = LayerNormalization(x, g, b) y = MatMul(n, w)", "float[N,20] y, float[N,32] n"},
        {"s = Mul(x, g) n = Add(s, b) y = MatMul(n, w) z = Relu(s)", "float[N,20] y, float[N,32] z"},
        {"n = Relu(x) y = MatMul(n, w)", "float[N,20] y"},
        {"n = LayerNormalization<axis = 0>(x, g, b) y = MatMul(n, w)", "float[N,20] y"},
    }));
    INFO(body);
    const ir::Model model = modelWithWeights(normModel(body, output), kNormWeights);
    const passes::ChannelMap map{sample(32, 5, 0.3, 2.0F), sample(32, 6, 1.0, 0.5F)};
    const ir::Model after = mapped(model.clone(), map);
    CHECK(after.graph().nodes().size() == model.graph().nodes().size() + 2);
    if (body.find("axis = 0") != std::string::npos) return;  // no such norm runs
    const test::Feeds feeds{{"x", test::randomTensor({3, 32}, 9, 1.0)}, {"skip", test::randomTensor({3, 32}, 10, 1.0)}};
    CHECK(test::largestDifference(test::outputsOf(after, feeds), test::outputsOf(reference(model.clone(), map), feeds)) <
          1e-6);
}

TEST_CASE("Equalisation finds the pairs of real models and changes no output") {
    const auto [name, pairs] = GENERATE(table<std::string, std::size_t>({
        {"bert_tiny", 2},         // values to output projection; GELU lets nothing through
        {"gpt2_char", 4},         // fused Q, K and V
        {"gpt2_char_kv", 0},      // the cache shows the values
        {"llama_char", 12},       // grouped queries, and up to down beside a gate
        {"vit_digits", 4},
        {"t5_char_encoder", 4},   // ReLU
        {"t5_char_decoder", 6},   // cross-attention too
    }));
    INFO(name);
    const ir::Model model = test::dataModel(name);
    ir::Model equal = model.clone();
    CHECK(passes::equalizeLayers(equal, analysis::recognise(equal), "test") == pairs);
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(equal, feeds), test::outputsOf(model, feeds)) < 1e-5);
}

TEST_CASE("After equalisation both layers of a pair reach equally far, channel by channel") {
    ir::Model model = test::dataModel("llama_char");
    passes::equalizeLayers(model, analysis::recognise(model), "test");
    const auto view = analysis::recognise(model);
    const auto paths = passes::scalingPaths(view);
    REQUIRE_FALSE(paths.empty());
    for (const passes::ScalingPath& path : paths) {
        const Tensor& first = *path.producer->weight->constant();
        const Tensor& second = *path.consumer->weight->constant();
        const auto at = [](const Tensor& matrix, std::int64_t row, std::int64_t column) {
            return std::fabs(matrix.data<float>()[static_cast<std::size_t>(row * matrix.shape()[1] + column)]);
        };
        std::map<std::int64_t, float> made, read;
        for (std::size_t i = 0; i < path.channels.size(); ++i) {
            const std::int64_t channel = path.channels[i];
            for (std::int64_t row = 0; row < first.shape()[0]; ++row)
                made[channel] = std::max(made[channel], at(first, row, channel));
            for (std::int64_t column = 0; column < second.shape()[1]; ++column)
                read[channel] = std::max(read[channel], at(second, static_cast<std::int64_t>(i), column));
        }
        for (const auto& [channel, reach] : made) CHECK(reach == Approx(read[channel]).epsilon(1e-4));
    }
}

TEST_CASE("Smoothing takes no operator where norms and layers take its factors") {
    const ir::Model model = test::dataModel("vit_digits");
    const auto folder = std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo";
    const data::Dataset calibration = data::readDataset(folder / "digits_calibration.npz").head(40);
    const std::string method = GENERATE("dynamic", "static");
    const auto smooth = test::runPass(model, "quantize", method, R"({"alpha": 0.5, "shift": false})", &calibration);
    const auto plain = test::runPass(model, "quantize", method, R"({"smooth": "none"})", &calibration);
    // All but the inputs of the down projections, which come from GELU.
    const auto muls = [](const ir::Model& of) { return countOf(of, "Mul"); };
    CHECK(muls(smooth.model) <= muls(plain.model) + 5);
    const test::Feeds feeds =
        data::fitToModel(data::readDataset(folder / "digits_validation.npz"), model).rows(0, 40);
    const auto after = test::outputsOf(smooth.model, feeds);
    CHECK(test::largestDifference(after, test::outputsOf(model, feeds)) < 0.06);
    if (test::haveJudge()) CHECK(test::largestDifference(after, test::runtimeOutputsOf(smooth.model, feeds)) < 0.02);
}
