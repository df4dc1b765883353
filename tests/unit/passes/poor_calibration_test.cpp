// Calibration data that say little: one sample, samples that are all alike, or nothing but zeros. A pass does what it can with
// them; no second moments are of so low a rank that it ends the run.

#include <catch2/catch.hpp>

#include <cmath>

#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::runPass;

namespace {

/// The first sample `count` times, each value times `factor`.
data::Dataset alike(std::int64_t count, float factor) {
    const Tensor one = test::samplesOf("digits_calibration", 0, 1).rows(0, 1).at("pixel_values");
    Shape shape = one.shape();
    shape[0] = count;
    Tensor all(DType::float32, shape);
    const auto source = one.data<float>();
    const auto target = all.mutableData<float>();
    for (std::size_t i = 0; i < target.size(); ++i) target[i] = factor * source[i % source.size()];
    return data::Dataset({{"pixel_values", all}}, std::nullopt, "test");
}

}  // namespace

TEST_CASE("Few samples, or samples all alike, end no pass") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = GENERATE(alike(1, 1), alike(16, 1), alike(16, 0));
    struct Case {
        const char *type, *method, *options;
    };
    const Case pass = GENERATE(Case{"remove-heads", "", R"({"ratio": 0.5})"},
                               Case{"prune", "sparsegpt", R"({"sparsity": 0.5})"},
                               Case{"quantize", "static", R"({"bits": 8})"},
                               Case{"low-rank", "activation-aware", "{}"},
                               Case{"low-rank", "attention", "{}"},
                               Case{"share-parameters", "attention", "{}"});
    CAPTURE(pass.type, pass.method, samples.sampleCount());
    const auto [after, report] = runPass(model, pass.type, pass.method, pass.options, &samples);
    CHECK_FALSE(report.changed.empty());
    const test::Feeds feeds{{"pixel_values", samples.rows(0, 1).at("pixel_values")}};
    for (const Tensor& output : test::outputsOf(after, feeds))
        for (const float value : output.data<float>()) REQUIRE(std::isfinite(value));
}
