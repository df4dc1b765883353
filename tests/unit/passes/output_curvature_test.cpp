// Second moments of gradients against what they are for layers whose Jacobian is a product of constants.

#include "passes/support/output_curvature.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/support/progress.h"
#include "lib/support/random.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using passes::OutputCurvature;
using test::runPass;
using test::samplesOf;

namespace {

data::Dataset randomRows(std::int64_t samples, std::int64_t channels) {
    Random random(3, "rows");
    Tensor x(DType::float32, {samples, channels});
    for (float& value : x.mutableData<float>()) value = static_cast<float>(random.normal());
    return data::Dataset({{"x", x}}, std::nullopt, "test");
}

struct Curvatures {
    Curvatures(ir::Model tried, const data::Dataset& samples, calibration::Resources resources = {}) : model(std::move(tried)), view(analysis::recognise(model)) {
        pipeline::PassReport report;
        weights = passes::targetWeights(view, {{}, {}, passes::WeightQuery::Tables::whenNamed}, report);
        std::vector<const passes::TargetWeight*> linear;
        for (const auto& weight : weights)
            if (weight.hasLinear() && weight.constant->constant()->rank() == 2) linear.push_back(&weight);
        const pipeline::PassContext context(nullptr, 0, "test", silentProgress(), std::make_shared<pipeline::ViewCache>(), std::move(resources));
        curvature.emplace(model, view, linear, samples, context);
    }
    std::vector<double> of(const std::string& site) const {
        for (const auto& weight : weights)
            if (weight.name() == site) return curvature->of(weight);
        FAIL("no weight " << site);
        return {};
    }

    ir::Model model;
    analysis::TransformerView view;
    std::vector<passes::TargetWeight> weights;
    std::optional<OutputCurvature> curvature;
};

}  // namespace

TEST_CASE("the curvature at a layer is what the linear layers behind it make of errors there") {
    const ir::Model model = test::modelFromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,6] x) => (float[n,5] y) <float[6,4] w1, float[4,5] w2, float[4] b>
        { a = MatMul (x, w1) c = Add (a, b) y = MatMul (c, w2) })");
    const Curvatures found(model.clone(), randomRows(512, 6));
    REQUIRE(found.curvature->refusal().empty());
    const std::vector<double> first = found.of(model.graph().nodes()[0]->label()), second = found.of(model.graph().nodes()[2]->label());
    REQUIRE(first.size() == 16);
    REQUIRE(second.size() == 25);
    // Signs of the outputs are independent of each other: the identity, damped by a tenth.
    for (std::size_t i = 0; i < 25; ++i) CHECK(second[i] == Approx(i % 6 == 0 ? 1.1 : 0.0).margin(0.15));
    const auto w2 = model.graph().find("w2")->constant()->data<float>();
    std::vector<double> expected(16);
    double trace = 0;
    for (std::size_t i = 0; i < 16; ++i) {
        for (std::size_t o = 0; o < 5; ++o) expected[i] += static_cast<double>(w2[i / 4 * 5 + o]) * static_cast<double>(w2[i % 4 * 5 + o]);
        if (i % 5 == 0) trace += expected[i];
    }
    for (std::size_t i = 0; i < 16; ++i) CHECK(first[i] == Approx(expected[i] * 4 / trace + (i % 5 == 0 ? 0.1 : 0.0)).margin(0.2));
}

TEST_CASE("errors that no output sees have no curvature, and what has no gradient is named") {
    const Curvatures half(test::modelFromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,6] x) => (float[n,4] y) <float[6,4] w1, float[6,4] w2>
        { a = MatMul (x, w1) s = Sign (a) b = MatMul (x, w2) y = Add (s, b) })"),
                          randomRows(16, 6));
    CHECK(half.curvature->of(half.weights[0]).empty());
    CHECK(half.curvature->of(half.weights[1]).size() == 16);

    const Curvatures none(test::modelFromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,6] x) => (float[n,4] y) <float[6,4] w1, int32 axis = {1}>
        { a = MatMul (x, w1) y = CumSum (a, axis) })"),
                          randomRows(16, 6));
    CHECK(none.curvature->refusal().find("(CumSum)") != std::string::npos);
    CHECK(none.curvature->of(none.weights[0]).empty());
}

TEST_CASE("layers packed in blocks have no gradients, and say so") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 8);
    const ir::Model packed =
        runPass(model, "quantize", "weight-only", R"({"bits": 4, "format": "contrib", "targets": ["role:attention"]})").model;
    const auto [pruned, report] = runPass(packed, "prune", "neuron", R"({"sparsity": 0.5, "loss": "model"})", &samples);
    CHECK(report.changed.size() == 4);
    CHECK(std::any_of(report.notes.begin(), report.notes.end(), [](const std::string& note) {
        return note.find("errors count by layers, not by the model's outputs") != std::string::npos;
    }));
    // Where nothing can go, nothing is asked.
    CHECK(runPass(packed, "remove-heads", "", R"({"ratio": 0.5, "loss": "model"})", &samples).report.changed.empty());
}

TEST_CASE("two samples are enough for a curvature, and one is not") {
    const ir::Model model = test::modelFromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,6] x) => (float[n,4] y) <float[6,4] w1>
        { y = MatMul (x, w1) })");
    CHECK(Curvatures(model.clone(), randomRows(2, 6)).curvature->refusal().empty());
    const Curvatures one(model.clone(), randomRows(1, 6));
    CHECK(one.curvature->refusal() == "2 samples are needed, and 1 is there to fit to");
    CHECK(one.curvature->of(one.weights[0]).empty());
}

TEST_CASE("with memory for one sum at a time the curvature is the same but for rounding") {
    const data::Dataset samples = test::samplesOf("digits_calibration", 0, 40);
    const Curvatures atOnce(test::dataModel("vit_digits"), samples), apart(test::dataModel("vit_digits"), samples, {.memoryLimitBytes = 1});
    std::size_t layers = 0;
    for (const auto& weight : atOnce.weights) {
        if (!weight.hasLinear() || weight.constant->constant()->rank() != 2) continue;
        ++layers;
        const std::vector<double> one = apart.of(weight.name()), all = atOnce.of(weight.name());
        REQUIRE(one.size() == all.size());
        double difference = 0, size = 0;
        for (std::size_t i = 0; i < all.size(); ++i) {
            difference += (one[i] - all[i]) * (one[i] - all[i]);
            size += all[i] * all[i];
        }
        // Where fewer values are asked for others are fused, which rounds otherwise.
        INFO(weight.name());
        CHECK(difference < 1e-10 * size);
    }
    CHECK(layers > 8);
}

TEST_CASE("every architecture of the zoo has gradients for all of its layers") {
    const auto [name, file] = GENERATE(table<std::string, std::string>({{"vit_digits", "digits_calibration"},
                                                                        {"vit_mnist5k", "mnist5k_calibration"},
                                                                        {"gpt2_char", "fortunes_char_calibration"},
                                                                        {"llama_char", "fortunes_char_calibration"}}));
    CAPTURE(name);
    const Curvatures found(test::dataModel(name), test::samplesOf(file, 0, 8));
    REQUIRE(found.curvature->refusal().empty());
    std::size_t layers = 0;
    for (const auto& weight : found.weights) {
        if (!weight.hasLinear() || weight.constant->constant()->rank() != 2) continue;
        ++layers;
        const std::vector<double> metric = found.curvature->of(weight);
        const auto outputs = static_cast<std::size_t>(weight.constant->constant()->shape()[weight.outAxis]);
        INFO(weight.name());
        CHECK(metric.size() == outputs * outputs);
        CHECK(std::all_of(metric.begin(), metric.end(), [](double value) { return std::isfinite(value); }));
    }
    CHECK(layers > 8);
}
