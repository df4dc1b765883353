// What a table's rounding is said to do to a model's outputs is what it does on look-ups that were not counted.

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/data/calibration_data.h"
#include "lib/ir/edit.h"
#include "lib/support/random.h"
#include "passes/quantize/mixed/table_damage.h"
#include "passes/quantize/table/row_usage.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;

namespace {

constexpr std::int64_t kRows = 3000, kFrequent = 100, kLength = 32;

/// Rows are looked up and put out, each times how much it matters.
const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[B,T] input_ids) => (float[B,T,32] y)
    <float table = {0}, float importance = {0}>
    {
        rows = Gather(table, input_ids)
        factors = Gather(importance, input_ids)
        y = Mul(rows, factors)
    })";

ir::Model model(float importanceOfFrequent) {
    ir::Model model = test::modelWithWeights(kText, {{"table", {kRows, kLength}}, {"importance", {kRows, 1}}});
    std::vector<float> importance(kRows, 1);
    std::fill_n(importance.begin(), kFrequent, importanceOfFrequent);
    ir::Edit edit(model, "test");
    edit.setConstant(model.graph().find("importance"),
                     Tensor::of<float>({kRows, 1}, std::span<const float>(importance)));
    edit.commit();
    return model;
}

/// Half of the look-ups are of few rows, the others of any: most of those are seen once at most.
data::Dataset samples() {
    Random random(3, "look-ups");
    std::vector<std::int64_t> ids;
    for (std::int64_t i = 0; i < 40 * 20; ++i)
        ids.push_back(static_cast<std::int64_t>(
            i % 2 == 0 ? random.below(kFrequent) : kFrequent + random.below(kRows - kFrequent)));
    return {{{"input_ids", Tensor::of<std::int64_t>({40, 20}, std::span<const std::int64_t>(ids))}},
            std::nullopt,
            "test"};
}

std::optional<double> factorOf(const ir::Model& model, const data::Dataset& samples, double bits) {
    const data::CalibrationData calibration(samples);
    const pipeline::PassContext context(&calibration, 0, "test", silentProgress());
    pipeline::PassReport report;
    const auto weights = passes::targetWeights(context.view(model), {}, report);
    const auto table = std::find_if(weights.begin(), weights.end(),
                                    [](const auto& weight) { return weight.constant->name() == "table"; });
    REQUIRE(table != weights.end());
    const passes::TieredQuantizer quantizer(context, *table, passes::tableUsage(model, context, "test", *table, report),
                                            passes::tableFormats());
    return passes::TableDamage(model, context, "test", samples)
        .factor(*table, quantizer, bits / 8 * static_cast<double>(kRows * kLength), 3);
}

}  // namespace

TEST_CASE("A table that is put out as it is loses what is expected of it, on look-ups that were not counted") {
    const auto factor = factorOf(model(1), samples(), 3);
    REQUIRE(factor);
    CHECK(*factor == Approx(1).epsilon(0.2));
}

TEST_CASE("Where outputs need rare rows only, their errors count more than their use says") {
    const auto all = factorOf(model(1), samples(), 3), rare = factorOf(model(0.1F), samples(), 3);
    REQUIRE((all && rare));
    // Half of the outputs are nearly gone; most of the errors are in the other half.
    CHECK(*rare > 1.6 * *all);
}

TEST_CASE("Too few samples, or too few bytes, say nothing about a table") {
    CHECK_FALSE(factorOf(model(1), samples().head(12), 3));
    CHECK_FALSE(factorOf(model(1), samples(), 0.1));
}
