#include <catch2/catch.hpp>
#include <cmath>

#include "lib/ir/load.h"
#include "lib/measure/evaluate.h"
#include "lib/support/error.h"

namespace tcompress::measure {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

const fs::path models = fs::path(TCOMPRESS_TEST_DATA) / "models";
const fs::path zooData = fs::path(TCOMPRESS_TEST_DATA) / "zoo";

EvaluateOptions qualityOnly() {
    EvaluateOptions options;
    options.latency = false;
    options.energy = EnergyMethod::none;
    options.resamples = 200;
    return options;
}

bool hasNote(const Evaluation& evaluation, const std::string& text) {
    for (const std::string& note : evaluation.notes)
        if (note.find(text) != std::string::npos) return true;
    return false;
}

TEST_CASE("evaluate: a classifier by itself has its published accuracy", "[measure]") {
    const ir::Model model = ir::load(models / "vit_digits.onnx");
    const data::Dataset digits = data::readDataset(zooData / "digits_test.npz");
    const Evaluation evaluation = evaluate(model, nullptr, &digits, qualityOnly());
    REQUIRE(evaluation.originalTask);
    CHECK(evaluation.originalTask->output == "logits");
    CHECK(evaluation.originalTask->metrics.at("accuracy").value == Approx(431.0 / 450));
    CHECK(evaluation.samples == 450);
    CHECK_FALSE(evaluation.compressedTask);
    CHECK_FALSE(evaluation.latency);
    CHECK_FALSE(evaluation.originalEnergy);
    CHECK(evaluation.fidelity.empty());
    CHECK(evaluation.notes.empty());
}

TEST_CASE("evaluate: a language model has its published loss", "[measure]") {
    const ir::Model model = ir::load(models / "gpt2_char.onnx");
    const data::Dataset text = data::readDataset(zooData / "fortunes_char_test.npz");
    const Evaluation evaluation = evaluate(model, nullptr, &text, qualityOnly());
    REQUIRE(evaluation.originalTask);
    const auto& metrics = evaluation.originalTask->metrics;
    CHECK(metrics.at("cross_entropy").value == Approx(2.285).margin(0.0006));
    CHECK(metrics.at("token_accuracy").value == Approx(0.349).margin(0.0006));
    CHECK(metrics.at("perplexity").value == Approx(std::exp(metrics.at("cross_entropy").value)));
    CHECK(metrics.at("token_accuracy").samples == 937 * 64);
}

TEST_CASE("evaluate: a model against itself", "[measure]") {
    const ir::Model model = ir::load(models / "vit_digits.onnx");
    const ir::Model same = model.clone();
    const data::Dataset digits = data::readDataset(zooData / "digits_test.npz");
    EvaluateOptions options = qualityOnly();
    options.maxSamples = 50;
    options.batchSize = 16;
    const Evaluation evaluation = evaluate(model, &same, &digits, options);
    CHECK(evaluation.samples == 50);
    CHECK(evaluation.pairedDifference.at("accuracy").high == 0);
    CHECK(evaluation.pairedDifference.at("cross_entropy").low == 0);
    CHECK(evaluation.pairedCounts->onlyOriginal == 0);
    CHECK(accuracyDrop(evaluation) == 0.0);
    const Fidelity& fidelity = evaluation.fidelity.at("logits");
    CHECK(fidelity.cosine.value == Approx(1));
    CHECK(fidelity.klDivergence.value == 0);
    CHECK(fidelity.top1Agreement.value == 1);
    CHECK(std::isinf(fidelity.sqnrDecibels));
    CHECK(evaluation.notes.empty());
}

TEST_CASE("evaluate: figures do not depend on the batch size", "[measure]") {
    const ir::Model model = ir::load(models / "gpt2_char.onnx");
    const data::Dataset text = data::readDataset(zooData / "fortunes_char_test.npz");
    EvaluateOptions options = qualityOnly();
    options.maxSamples = 20;
    options.batchSize = 20;
    const double whole =
        evaluate(model, nullptr, &text, options).originalTask->metrics.at("cross_entropy").value;
    options.batchSize = 7;
    CHECK(evaluate(model, nullptr, &text, options).originalTask->metrics.at("cross_entropy").value ==
          Approx(whole).epsilon(1e-5));
}

TEST_CASE("evaluate: pooled cosine and neighbours where there is a mask", "[measure]") {
    const ir::Model model = ir::load(models / "bert_tiny.onnx");
    const ir::Model fused = ir::load(models / "bert_tiny_fused.onnx");
    const data::Dataset data = data::syntheticDataset(model, 9, 3, {{"sequence", 6}});
    const Evaluation evaluation = evaluate(model, &fused, &data, qualityOnly());
    CHECK(evaluation.fidelity.at("last_hidden_state").meanPooledCosine.value == Approx(1).epsilon(1e-5));
    CHECK(evaluation.fidelity.at("last_hidden_state").neighbourAgreement.samples == 9);
    CHECK(evaluation.fidelity.at("last_hidden_state").klDivergence.samples == 0);
    CHECK(evaluation.fidelity.at("logits").klDivergence.samples == 9);
    CHECK(evaluation.fidelity.at("logits").meanPooledCosine.samples == 0);
    CHECK_FALSE(evaluation.originalTask);  // no labels, no accuracy
    CHECK_FALSE(accuracyDrop(evaluation));
}

TEST_CASE("evaluate: without data, latency and modelled energy on synthetic inputs", "[measure]") {
    const ir::Model model = ir::load(models / "bert_tiny.onnx");
    const ir::Model same = model.clone();
    EvaluateOptions options;
    options.latencyRuns = 4;
    options.energy = EnergyMethod::modelled;
    const Evaluation evaluation = evaluate(model, &same, nullptr, options);
    CHECK(evaluation.samples == 0);
    CHECK(evaluation.dataOrigin == "synthetic");
    CHECK(hasNote(evaluation, "synthetic"));
    CHECK(evaluation.latency->compressed.runs == 4);
    CHECK(evaluation.latency->speedup > 0);
    CHECK(evaluation.originalEnergy->joulesPerInference > 0);
    CHECK(evaluation.compressedEnergy->joulesPerInference == evaluation.originalEnergy->joulesPerInference);
    CHECK_FALSE(evaluation.originalTask);
    CHECK(evaluation.fidelity.empty());
}

ir::Model scaledModel(const std::string& expression) {
    return ir::fromText(R"(<ir_version: 8, opset_import: ["" : 17]>
m (float[n, 2] x) => (float[n, 2] logits) <float[1] zero = {0}, float[1] one = {1}> { logits = )" +
                        expression + " }");
}

TEST_CASE("evaluate: outputs that are not finite are said in one line", "[measure]") {
    const ir::Model good = scaledModel("Mul (x, one)"), bad = scaledModel("Div (x, zero)");
    const data::Dataset data({{"x", Tensor::of<float>({3, 2}, {0, 0, 1, 2, 3, 1})}},
                             Tensor::of<std::int64_t>({3}, {0, 1, 0}), "d");
    const Evaluation evaluation = evaluate(good, &bad, &data, qualityOnly());
    CHECK(evaluation.notes ==
          std::vector<std::string>{
              "compressed model: output 'logits' holds NaN or infinity for 3 of 3 samples"});
    CHECK(evaluation.originalTask->metrics.at("accuracy").value == 1);
    CHECK(evaluation.compressedTask->metrics.at("accuracy").value < 1);
    CHECK_FALSE(std::isfinite(evaluation.compressedTask->metrics.at("cross_entropy").value));
    CHECK(evaluation.fidelity.at("logits").notFiniteSamples == 3);
}

TEST_CASE("evaluate: labels that no output fits give no accuracy, and the reason", "[measure]") {
    const ir::Model encoder = ir::load(models / "t5_char_encoder.onnx");
    const data::Dataset data = data::readDataset(zooData / "devowel_test.npz").head(4);
    const Evaluation evaluation = evaluate(encoder, nullptr, &data, qualityOnly());
    CHECK_FALSE(evaluation.originalTask);
    CHECK(hasNote(evaluation, "no task metrics"));

    const ir::Model model = scaledModel("Mul (x, one)");
    const data::Dataset negative({{"x", Tensor(DType::float32, {2, 2})}},
                                 Tensor::of<std::int64_t>({2}, {0, -1}), "d");
    CHECK_THROWS_WITH(evaluate(model, nullptr, &negative, qualityOnly()),
                      Contains("label -1 at position 1 is no class"));
}

TEST_CASE("evaluate: data without labels, or with none that count, say why there is no accuracy", "[measure]") {
    const ir::Model model = ir::load(models / "vit_digits.onnx");
    const data::Dataset digits = data::readDataset(zooData / "digits_test.npz").head(8);
    const data::Dataset bare(digits.arrays(), std::nullopt, "bare.npz");
    CHECK(hasNote(evaluate(model, nullptr, &bare, qualityOnly()), "the data hold no labels"));
    const std::vector<std::int64_t> ignored(8, -100);
    const data::Dataset none(digits.arrays(), Tensor::of<std::int64_t>({8}, ignored), "none.npz");
    const Evaluation evaluation = evaluate(model, nullptr, &none, qualityOnly());
    CHECK(hasNote(evaluation, "every label is -100"));
    CHECK(evaluation.originalTask->metrics.empty());
    // Two models are compared without labels, too.
    CHECK(evaluate(model, &model, &bare, qualityOnly()).notes.empty());
}

TEST_CASE("evaluate: a fixed batch takes precedence, the rest is left out and said", "[measure]") {
    const ir::Model model = ir::fromText(R"(<ir_version: 8, opset_import: ["" : 17]>
m (float[2, 2] x) => (float[2, 2] logits) { logits = Identity (x) })");
    const data::Dataset data({{"x", Tensor::of<float>({5, 2}, {1, 0, 0, 1, 1, 0, 0, 1, 1, 0})}},
                             Tensor::of<std::int64_t>({5}, {0, 1, 0, 1, 0}), "d");
    const Evaluation evaluation = evaluate(model, nullptr, &data, qualityOnly());
    CHECK(evaluation.samples == 4);
    CHECK(evaluation.batchSize == 2);
    CHECK(evaluation.originalTask->metrics.at("accuracy").value == 1);
    CHECK(hasNote(evaluation, "the last 1 samples do not fill"));
    const data::Dataset one = data.head(1);
    CHECK_THROWS_WITH(evaluate(model, nullptr, &one, qualityOnly()), Contains("fixed to 2 at once"));
}

}  // namespace
}  // namespace tcompress::measure
