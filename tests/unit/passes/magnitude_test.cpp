// Magnitude pruning: exact counts, the smallest weights, ties by position.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "lib/ir/edit.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::modelWithWeights;
using test::runPass;
using test::skippedSite;

namespace {

const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (int64[N] ids) => (float[N,24] y)
    <float table = {0}, float w = {0}, float v = {0}>
    {
        [lookup] rows = Gather(table, ids)
        [one] h = MatMul(rows, w)
        [two] y = Gemm<transB = 1>(h, v)
    })";

ir::Model small() { return modelWithWeights(kText, {{"table", {10, 16}}, {"w", {16, 32}}, {"v", {24, 32}}}); }

std::vector<float> valuesOf(const ir::Model& model, const char* weight) {
    return toFloat32(*model.graph().find(weight)->constant());
}

std::int64_t zeros(const std::vector<float>& values) {
    return std::count(values.begin(), values.end(), 0.0F);
}

/// What stays is unchanged; what went was no larger than what stays.
void checkSmallestWent(const std::vector<float>& before, const std::vector<float>& after) {
    float largestGone = 0, smallestKept = 1e30F;
    for (std::size_t i = 0; i < before.size(); ++i) {
        if (after[i] == 0) {
            largestGone = std::max(largestGone, std::fabs(before[i]));
        } else {
            REQUIRE(after[i] == before[i]);
            smallestKept = std::min(smallestKept, std::fabs(after[i]));
        }
    }
    CHECK(largestGone <= smallestKept);
}

}  // namespace

TEST_CASE("A share of each tensor goes, exactly, the smallest first") {
    const ir::Model model = small();
    const auto [sparse, report] = runPass(model, "prune", "magnitude", R"({"sparsity": 0.5})");
    CHECK(report.changed.size() == 2);
    CHECK(skippedSite(report, "lookup") != nullptr);
    CHECK(zeros(valuesOf(sparse, "w")) == 16 * 32 / 2);
    CHECK(zeros(valuesOf(sparse, "v")) == 24 * 32 / 2);
    CHECK(zeros(valuesOf(sparse, "table")) == 0);
    checkSmallestWent(valuesOf(model, "w"), valuesOf(sparse, "w"));
    double lost = 0, all = 0;
    const auto before = valuesOf(model, "w"), after = valuesOf(sparse, "w");
    for (std::size_t i = 0; i < before.size(); ++i) {
        lost += std::pow(static_cast<double>(before[i]) - after[i], 2);
        all += std::pow(static_cast<double>(before[i]), 2);
    }
    CHECK(report.changed[0].error == Approx(std::sqrt(lost / all)).epsilon(1e-6));
}

TEST_CASE("A share of all tensors together") {
    ir::Model model = small();
    ir::Edit edit(model, "test");
    edit.setConstant(model.graph().find("v"), test::randomTensor({24, 32}, 9, 5.0));
    edit.commit();
    const auto [sparse, report] =
        runPass(model, "prune", "magnitude", R"({"sparsity": 0.3, "scope": "global"})");
    const auto w = valuesOf(sparse, "w"), v = valuesOf(sparse, "v");
    CHECK(zeros(w) + zeros(v) == (16 * 32 + 24 * 32) * 3 / 10);
    CHECK(zeros(w) > zeros(v) * 10);
    std::vector<float> before = valuesOf(model, "w"), after = w;
    const auto more = valuesOf(model, "v");
    before.insert(before.end(), more.begin(), more.end());
    after.insert(after.end(), v.begin(), v.end());
    checkSmallestWent(before, after);
}

TEST_CASE("Ties go by position") {
    ir::Model model = small();
    ir::Edit edit(model, "test");
    Tensor equal(DType::float32, {16, 32});
    for (float& value : equal.mutableData<float>()) value = 0.25F;
    edit.setConstant(model.graph().find("w"), equal);
    edit.commit();
    const auto sparse = runPass(model, "prune", "magnitude", R"({"sparsity": 0.25, "targets": ["one"]})");
    const auto after = valuesOf(sparse.model, "w");
    CHECK(std::all_of(after.begin(), after.begin() + 128, [](float value) { return value == 0; }));
    CHECK(std::all_of(after.begin() + 128, after.end(), [](float value) { return value == 0.25F; }));
}

TEST_CASE("N of every M stay along the inputs, in both orientations") {
    const auto [pattern, keep, group] =
        GENERATE(table<std::string, int, int>({{"2:4", 2, 4}, {"4:8", 4, 8}, {"1:4", 1, 4}}));
    const ir::Model model = small();
    const auto [sparse, report] =
        runPass(model, "prune", "magnitude", "{\"structure\": \"" + pattern + "\"}");
    CHECK(report.changed.size() == 2);
    const auto check = [&, keep = keep, group = group](const char* name, std::size_t inputs,
                                                       std::size_t outputs, bool inputsLast) {
        const auto before = valuesOf(model, name), after = valuesOf(sparse, name);
        for (std::size_t output = 0; output < outputs; ++output) {
            for (std::size_t first = 0; first < inputs; first += static_cast<std::size_t>(group)) {
                std::vector<float> old, now;
                for (std::size_t i = first; i < first + static_cast<std::size_t>(group); ++i) {
                    const std::size_t at = inputsLast ? output * inputs + i : i * outputs + output;
                    old.push_back(before[at]);
                    now.push_back(after[at]);
                }
                REQUIRE(zeros(now) == group - keep);
                checkSmallestWent(old, now);
            }
        }
    };
    check("w", 16, 32, false);
    check("v", 32, 24, true);
}

TEST_CASE("Whole blocks go by their norm") {
    const ir::Model model = small();
    const auto [sparse, report] =
        runPass(model, "prune", "magnitude", R"({"structure": "block4x2", "sparsity": 0.5})");
    REQUIRE(report.changed.size() == 2);
    const auto before = valuesOf(model, "v"), after = valuesOf(sparse, "v");  // [24 outputs, 32 inputs]
    std::vector<double> gone, kept;
    for (std::size_t input = 0; input < 32; input += 4)
        for (std::size_t output = 0; output < 24; output += 2) {
            double norm = 0;
            int zero = 0;
            for (std::size_t i = input; i < input + 4; ++i)
                for (std::size_t o = output; o < output + 2; ++o) {
                    norm += std::pow(static_cast<double>(before[o * 32 + i]), 2);
                    zero += after[o * 32 + i] == 0;
                }
            REQUIRE((zero == 0 || zero == 8));
            (zero == 8 ? gone : kept).push_back(norm);
        }
    CHECK(gone.size() == kept.size());
    CHECK(*std::max_element(gone.begin(), gone.end()) <= *std::min_element(kept.begin(), kept.end()));
}

TEST_CASE("Below a threshold everything goes") {
    const ir::Model model = small();
    const auto [sparse, report] = runPass(model, "prune", "magnitude", R"({"threshold": 0.03})");
    const auto before = valuesOf(model, "w"), after = valuesOf(sparse, "w");
    for (std::size_t i = 0; i < before.size(); ++i)
        CHECK(after[i] == (std::fabs(before[i]) < 0.03F ? 0.0F : before[i]));
}
