// Mixed precision and embedding tables: rows of large ones are divided by use, those of small ones stored alike.

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/ir/save.h"
#include "lib/support/random.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::runPass;

namespace {

constexpr std::int64_t kRows = 5000, kPlaces = 256, kSamples = 48, kLength = 16;

ir::Model model() {
    return test::modelWithWeights(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[B,T] input_ids, int64[B,T] place_ids) => (float[B,24] y)
        <float table = {0}, float places = {0}, float w = {0}>
        {
            rows = Gather(table, input_ids)
            at = Gather(places, place_ids)
            x = Add(rows, at)
            mean = ReduceMean <axes = [1], keepdims = 0> (x)
            y = MatMul(mean, w)
        })",
                                  {{"table", {kRows, 32}}, {"places", {kPlaces, 32}}, {"w", {32, 24}}});
}

Tensor idsOf(const std::vector<std::int64_t>& ids) {
    return Tensor::of<std::int64_t>({std::ssize(ids) / kLength, kLength}, std::span<const std::int64_t>(ids));
}

/// Ids of few rows in the samples, those with odd numbers (which a share of a half holds back) moved by `moved` rows;
/// the first kLength places.
data::Dataset samples(std::int64_t moved = 0) {
    Random random(3, "ids");
    std::vector<std::int64_t> ids, places, labels;
    for (std::int64_t i = 0; i < kSamples * kLength; ++i) {
        ids.push_back(static_cast<std::int64_t>(random.below(400)) + (i / kLength % 2 == 1 ? moved : 0));
        places.push_back(i % kLength);
    }
    for (std::int64_t i = 0; i < kSamples; ++i) labels.push_back(i % 24);
    return {{{"input_ids", idsOf(ids)}, {"place_ids", idsOf(places)}},
            Tensor::of<std::int64_t>({kSamples}, std::span<const std::int64_t>(labels)),
            "test"};
}

std::string changeOf(const pipeline::PassReport& report, const std::string& output) {
    const auto found = std::find_if(report.changed.begin(), report.changed.end(),
                                    [&](const auto& one) { return one.site.find(output) != std::string::npos; });
    REQUIRE(found != report.changed.end());
    return found->change;
}

}  // namespace

TEST_CASE("Rows of large tables are divided by use, and places that no sample reached keep the bits of the others") {
    const ir::Model original = model();
    const data::Dataset calibration = samples();
    const auto [mixed, report] =
        runPass(original, "quantize", "auto", R"({"bits_per_weight": 4, "format": "packed"})", &calibration);
    const std::string table = changeOf(report, "rows"), places = changeOf(report, "at");
    CAPTURE(table, places);
    CHECK_THAT(table, Catch::Contains("rows in") && Catch::Contains(", "));
    CHECK_THAT(places, !Catch::Contains("rows in"));
    // The table's rows are the same ones, so that what differs is what the places lose.
    const auto errorAt = [&](std::int64_t first) {
        std::vector<std::int64_t> ids(static_cast<std::size_t>(kLength), 7), at;
        for (std::int64_t i = 0; i < kLength; ++i) at.push_back(first + i);
        const test::Feeds feeds{{"input_ids", idsOf(ids)}, {"place_ids", idsOf(at)}};
        return test::largestDifference(test::outputsOf(mixed, feeds), test::outputsOf(original, feeds));
    };
    CHECK(errorAt(kPlaces - kLength) < 3 * errorAt(0));
}

TEST_CASE("Where an accuracy is to be kept, look-ups of the samples that it is measured on do not count") {
    const auto smallest = [](std::int64_t moved) {
        const data::Dataset calibration = samples(moved);
        // Any accuracy will do: the smallest file.
        const auto result = runPass(model(), "quantize", "auto",
                                    R"({"max_accuracy_drop": 1, "format": "packed", "group_sizes": [32]})", &calibration);
        CHECK_THAT(changeOf(result.report, "rows"), Catch::Contains("rows in"));
        std::string stored;
        const onnx::ModelProto proto = ir::modelToProto(result.model, ir::WeightData::embed);
        for (const onnx::TensorProto& initializer : proto.graph().initializer())
            if (initializer.name().starts_with("table")) stored += initializer.SerializeAsString();
        return stored;
    };
    const std::string table = smallest(0);
    REQUIRE_FALSE(table.empty());
    CHECK((smallest(2000) == table));
}
