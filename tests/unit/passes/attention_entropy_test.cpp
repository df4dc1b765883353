// Certainty of heads against the definition, on tensors whose entropies are known, and heads removed by it.

#include "passes/remove_heads/attention_entropy.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using passes::CertaintySums;

TEST_CASE("certainty is 0 for a uniform head and 1 for one that picks a key, padding and hidden keys left out") {
    // Two samples, two heads, two queries, four keys; head 0 uniform over what it sees, head 1 certain.
    Tensor weights(DType::float32, {2, 2, 2, 4});
    const auto values = weights.mutableData<float>();
    for (std::size_t row = 0; row < 8; ++row) {
        float* const keys = values.data() + row * 4;
        if (row / 2 % 2 == 0)
            std::fill_n(keys, 3, 1.0f / 3);  // the fourth key is hidden
        else
            keys[1] = 1;
    }
    // A padded query that would spoil it.
    values[3 * 4] = values[3 * 4 + 1] = 0.5f;
    CertaintySums sums{{0, 0}, {0, 0}};
    passes::addCertainty(weights, 1, {0, 1}, {true, false, true, true}, sums);
    CHECK(sums.count == std::vector<double>{3, 3});
    CHECK(sums.certainty[0] == Approx(0).margin(1e-6));
    // A query that sees a single key is certain of nothing.
    CHECK(sums.certainty[1] == Approx(0).margin(1e-6));
    values[2 * 4] = 0.1f;
    values[2 * 4 + 1] = 0.9f;
    sums = {{0, 0}, {0, 0}};
    passes::addCertainty(weights, 1, {0, 1}, {true, false, true, true}, sums);
    CHECK(sums.certainty[1] == Approx(1 + (0.1 * std::log(0.1) + 0.9 * std::log(0.9)) / std::log(2.0)).epsilon(1e-6));
    // Both heads of one unit.
    sums = {{0}, {0}};
    passes::addCertainty(weights, 1, {0, 0}, {}, sums);
    CHECK(sums.count == std::vector<double>{8});
}

TEST_CASE("the least certain heads go, and layers whose attention is inside an operator stay") {
    const std::string name = GENERATE("vit_digits", "llama_char");
    CAPTURE(name);
    const ir::Model model = test::dataModel(name);
    const data::Dataset samples = name == "vit_digits" ? test::samplesOf("digits_calibration", 0, 8)
                                                       : test::samplesOf("fortunes_char_calibration", 0, 4);
    const auto removed = test::runPass(model, "remove-heads", "", R"({"ratio": 0.5, "importance": "entropy", "compensate": false})", &samples);
    CHECK(removed.model.constantBytes() < model.constantBytes());
    CHECK(removed.report.skipped.empty());
    const pipeline::PassContext context(nullptr, 0, "0", silentProgress());
    const analysis::TransformerView view = analysis::recognise(model);
    pipeline::PassReport unused;
    const auto groups = passes::targetLayers(view, passes::attentionUnits(view), {}, {}, unused);
    const auto certainties = passes::attentionCertainty(model, view, groups, samples, context);
    REQUIRE(certainties.size() == groups.size());
    for (std::size_t layer = 0; layer < groups.size(); ++layer) {
        const auto& certainty = certainties[layer];
        REQUIRE(certainty);
        std::vector<std::size_t> lowest(certainty->size());
        std::iota(lowest.begin(), lowest.end(), std::size_t{0});
        std::ranges::sort(lowest, {}, [&](std::size_t unit) { return (*certainty)[unit]; });
        lowest.resize(lowest.size() / 2);
        std::ranges::sort(lowest);
        for (const double value : *certainty) CHECK((value >= 0 && value <= 1));
        CHECK_THAT(removed.report.changed[layer].change,
                   Catch::Contains(fmt::format("({} {} removed)", lowest.size() == 1 ? "key-value group" : "heads", fmt::join(lowest, ", "))));
    }
    const ir::Model fused = test::dataModel("bert_tiny_fused");
    const data::Dataset synthetic = data::syntheticDataset(fused, 2, /*seed=*/1, {{"sequence", 5}, {"seq", 5}});
    const auto left = test::runPass(fused, "remove-heads", "", R"({"ratio": 0.5, "importance": "entropy", "compensate": false})", &synthetic);
    REQUIRE_FALSE(left.report.skipped.empty());
    CHECK_THAT(left.report.skipped.front().reason, Catch::Contains("no value of the graph"));
}
