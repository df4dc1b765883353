#include "lib/measure/task.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

namespace tcompress::measure {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

TaskScores scores(const Tensor& logits, std::vector<std::int64_t> labels,
                  ScoreKind kind = ScoreKind::logits) {
    TaskScores result("logits", kind);
    result.add(logits, labels);
    return result;
}

TEST_CASE("classification: accuracy, F1 and cross-entropy by hand", "[measure]") {
    // Predictions 0, 1, 1, 2, 1 against labels 0, 1, 2, 2, 0.
    const Tensor logits = Tensor::of<float>({5, 3}, {2, 0, 0, 0, 1, 0, 0, 3, 0, 0, 0, 4, -1, 0, -2});
    const TaskMetrics metrics = scores(logits, {0, 1, 2, 2, 0}).metrics({200, 1});
    CHECK(metrics.metrics.at("accuracy").value == Approx(0.6));
    CHECK(metrics.metrics.at("accuracy").samples == 5);
    // Class 0: hits 1, predicted 1, labelled 2; class 1: 1, 3, 1; class 2: 1, 1, 2. F1 = 2 hits / (predicted
    // + labelled).
    CHECK(metrics.metrics.at("f1").value == Approx((2.0 / 3 + 2.0 / 4 + 2.0 / 3) / 3));
    const auto nll = [](double label, double a, double b) {
        return -label + std::log(std::exp(label) + std::exp(a) + std::exp(b));
    };
    const double expected = (nll(2, 0, 0) + nll(1, 0, 0) + nll(0, 3, 0) + nll(4, 0, 0) + nll(-1, 0, -2)) / 5;
    CHECK(metrics.metrics.at("cross_entropy").value == Approx(expected));
    CHECK_FALSE(metrics.metrics.contains("top5"));
    CHECK(metrics.correct == std::vector<bool>{true, true, false, true, false});
    CHECK(metrics.loss.size() == 5);
}

TEST_CASE("classification: F1 leaves out classes that never occur", "[measure]") {
    const Tensor logits = Tensor::of<float>({2, 4}, {1, 0, 0, 0, 0, 1, 0, 0});
    CHECK(scores(logits, {0, 1}).metrics({0, 1}).metrics.at("f1").value == 1);
}

TEST_CASE("classification: top-5 counts classes that score higher", "[measure]") {
    Tensor logits(DType::float32, {3, 7});
    for (int i = 0; i < 21; ++i)
        logits.mutableData<float>()[static_cast<std::size_t>(i)] = static_cast<float>(-(i % 7));
    const TaskMetrics metrics = scores(logits, {4, 5, 0}).metrics({0, 1});
    CHECK(metrics.metrics.at("top5").value == Approx(2.0 / 3));
    CHECK(metrics.metrics.at("accuracy").value == Approx(1.0 / 3));
    // Equal scores: the first is taken, as numpy's argmax does.
    CHECK(scores(Tensor(DType::float32, {1, 7}), {4}).metrics({0, 1}).metrics.at("top5").value == 1);
    CHECK(scores(Tensor(DType::float32, {1, 7}), {5}).metrics({0, 1}).metrics.at("top5").value == 0);
    CHECK(scores(Tensor(DType::float32, {1, 7}), {0}).metrics({0, 1}).metrics.at("accuracy").value == 1);
}

TEST_CASE("tokens: ignored labels count nowhere", "[measure]") {
    const Tensor logits = Tensor::of<float>({2, 2, 2}, {1, 0, 0, 1, 5, 0, 0, 0});
    const TaskMetrics metrics = scores(logits, {0, -100, 1, 0}).metrics({200, 1});
    const double loss = (std::log(1 + std::exp(-1.0)) + std::log(1 + std::exp(5.0)) + std::log(2.0)) / 3;
    CHECK(metrics.metrics.at("token_accuracy").value == Approx(2.0 / 3));
    CHECK(metrics.metrics.at("token_accuracy").samples == 3);
    CHECK(metrics.metrics.at("cross_entropy").value == Approx(loss));
    CHECK(metrics.metrics.at("perplexity").value == Approx(std::exp(loss)));
    CHECK(metrics.correct == std::vector<bool>{true, false, true});
    CHECK_FALSE(metrics.metrics.contains("accuracy"));
    CHECK(scores(logits, {-100, -100, -100, -100}).metrics({10, 1}).metrics.empty());
}

TEST_CASE("an output of probabilities is used by its logarithm", "[measure]") {
    const Tensor probabilities = Tensor::of<float>({1, 2}, {0.25f, 0.75f});
    CHECK(scoreKind("output", probabilities) == ScoreKind::probabilities);
    CHECK(scoreKind("output", Tensor::of<float>({1, 2}, {0.25f, 0.7f})) == ScoreKind::none);
    CHECK(scoreKind("my_logits", probabilities) == ScoreKind::logits);
    CHECK(scores(probabilities, {0}, ScoreKind::probabilities)
              .metrics({0, 1})
              .metrics.at("cross_entropy")
              .value == Approx(std::log(4.0)));
}

TEST_CASE("a row that is not finite is wrong, and its loss is not finite", "[measure]") {
    const TaskMetrics metrics = scores(Tensor::of<float>({2, 2}, {nan, 0, 1, 0}), {0, 0}).metrics({50, 1});
    CHECK(metrics.metrics.at("accuracy").value == 0.5);
    CHECK(std::isnan(metrics.metrics.at("cross_entropy").value));
    // Minus infinity is a class that is ruled out.
    const float low = -std::numeric_limits<float>::infinity();
    CHECK(
        scores(Tensor::of<float>({1, 2}, {low, 0}), {1}).metrics({0, 1}).metrics.at("cross_entropy").value ==
        0);
}

TEST_CASE("paired comparison of two models", "[measure]") {
    const Tensor before = Tensor::of<float>({4, 2}, {1, 0, 1, 0, 1, 0, 1, 0});
    const Tensor after = Tensor::of<float>({4, 2}, {1, 0, 0, 1, 0, 1, 1, 0});
    const TaskScores a = scores(before, {0, 0, 1, 1}), b = scores(after, {0, 0, 1, 1});
    const PairedCounts counts = TaskScores::pairedCounts(a, b);
    CHECK(counts.bothCorrect == 1);
    CHECK(counts.onlyOriginal == 1);
    CHECK(counts.onlyCompressed == 1);
    CHECK(counts.bothWrong == 1);
    CHECK(counts.pValue == 1);
    const auto difference = TaskScores::difference(a, b, {1000, 1});
    CHECK(difference.at("accuracy").value == 0);
    CHECK(difference.at("accuracy").low < 0);
    CHECK(difference.at("accuracy").high > 0);
    // A model against itself differs by exactly nothing in every resample.
    for (const auto& [name, estimate] : TaskScores::difference(a, a, {1000, 1})) {
        CHECK(estimate.low == 0);
        CHECK(estimate.high == 0);
    }
}

TEST_CASE("which output the labels judge", "[measure]") {
    const Tensor classes(DType::float32, {4, 3}), other(DType::float32, {4, 8}),
        tokens(DType::float32, {4, 5, 3});
    const Tensor labels(DType::int64, {4}), tokenLabels(DType::int64, {4, 5});
    std::string reason;
    const auto chosen = [&](std::vector<NamedOutput> outputs, const Tensor& by,
                            std::int64_t largest = 2) -> std::string {
        const NamedOutput* output = outputForLabels(outputs, by, largest, reason);
        return output == nullptr ? "" : output->name;
    };
    CHECK(chosen({{"hidden", &tokens}, {"y", &classes}}, labels) == "y");
    CHECK(chosen({{"a", &other}, {"Logits", &classes}}, labels) == "Logits");
    CHECK(chosen({{"pooled", &other}, {"y", &classes}}, labels) == "y");
    CHECK(chosen({{"y", &tokens}, {"x", &classes}}, tokenLabels) == "y");
    // Near misses: never guess between two, never take hidden states, never classes that are not there.
    CHECK(chosen({{"a", &other}, {"b", &classes}}, labels).empty());
    CHECK(reason.find("more than one output") != std::string::npos);
    CHECK(chosen({{"last_hidden_state", &tokens}}, tokenLabels).empty());
    CHECK(chosen({{"logits", &classes}}, labels, 3).empty());
    CHECK(reason.find("4 classes or more") != std::string::npos);
    CHECK(chosen({{"logits", &classes}}, Tensor(DType::float32, {4})).empty());
    CHECK(reason.find("labels are float32 [4]") != std::string::npos);
}

}  // namespace
}  // namespace tcompress::measure
