// Factors fitted to data: the loss in closed form, and better outputs than a plain decomposition.

#include <catch2/catch.hpp>
#include <cmath>
#include <optional>

#include "kernels/linalg.h"
#include "passes/low_rank/rank_allocation.h"
#include "passes/low_rank/table_factors.h"
#include "passes/low_rank/whitened_svd.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::noise;
using test::outputError;
using test::runPass;
using test::samplesOf;

TEST_CASE("the loss of whitened factors is the closed form, and no other factors lose less") {
    constexpr std::int64_t kInputs = 12, kOutputs = 9, kRank = 4;
    const auto x = noise(40 * kInputs, 1), w = noise(kInputs * kOutputs, 2);
    std::vector<double> h(kInputs * kInputs);
    kernels::gemm(kernels::Transposition::yes, kernels::Transposition::no, kInputs, kInputs, 40, x, x, h);
    for (std::int64_t i = 0; i < kInputs; ++i) h[static_cast<std::size_t>(i * kInputs + i)] *= 1.0 + 0.2 * static_cast<double>(i);
    const auto loss = [&](const std::vector<double>& other) {
        double sum = 0;
        for (std::int64_t o = 0; o < kOutputs; ++o)
            for (std::int64_t i = 0; i < kInputs; ++i)
                for (std::int64_t j = 0; j < kInputs; ++j) {
                    const auto a = static_cast<std::size_t>(i * kOutputs + o), b = static_cast<std::size_t>(j * kOutputs + o);
                    sum += (other[a] - w[a]) * h[static_cast<std::size_t>(i * kInputs + j)] * (other[b] - w[b]);
                }
        return sum;
    };
    const passes::LowRankFactors best = passes::whitenedSvd(h, w, kOutputs, kRank);
    CHECK(loss(passes::product(best)) == Approx(best.lost).epsilon(1e-4));
    for (std::uint64_t seed = 10; seed < 30; ++seed) {
        passes::LowRankFactors other = best;
        const auto left = noise(kInputs * kRank, seed), right = noise(kRank * kOutputs, seed + 100);
        for (std::size_t i = 0; i < left.size(); ++i) other.left[i] += 0.01 * left[i];
        for (std::size_t i = 0; i < right.size(); ++i) other.right[i] += 0.01 * right[i];
        CHECK(loss(passes::product(other)) > best.lost);
    }
    // In the plain metric it is the plain decomposition.
    std::vector<double> unit(kInputs * kInputs);
    for (std::int64_t i = 0; i < kInputs; ++i) unit[static_cast<std::size_t>(i * kInputs + i)] = 1;
    const std::vector<float> values(w.begin(), w.end());
    const kernels::Svd svd = kernels::svd(values, kInputs, kOutputs);
    double tail = 0;
    for (std::size_t i = kRank; i < svd.s.size(); ++i) tail += static_cast<double>(svd.s[i]) * static_cast<double>(svd.s[i]);
    CHECK(passes::whitenedSvd(unit, w, kOutputs, kRank).lost == Approx(tail).epsilon(1e-5));
}

TEST_CASE("factors fitted to data keep outputs nearer than a plain decomposition") {
    const std::string name = GENERATE("vit_digits", "vit_mnist5k", "gpt2_char", "llama_char");
    CAPTURE(name);
    const std::string file = name == "vit_digits"    ? "digits_calibration"
                             : name == "vit_mnist5k" ? "mnist5k_calibration"
                                                     : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 64), other = samplesOf(file, 64, 96);
    const std::string targets = R"(, "targets": ["role:attention.*", "role:ffn.*"]})";
    const auto aware = runPass(model, "low-rank", "activation-aware", R"({"keep": 0.5)" + targets, &fit);
    const auto plain = runPass(model, "low-rank", "svd", R"({"keep": 0.5)" + targets);
    REQUIRE_FALSE(aware.report.changed.empty());
    CHECK(aware.report.changed.size() == plain.report.changed.size());
    CHECK(aware.model.constantBytes() <= plain.model.constantBytes());
    CHECK(outputError(model, aware.model, other) < 0.6 * outputError(model, plain.model, other));
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(aware.model);
    CHECK(test::largestDifference(test::outputsOf(aware.model, feeds), test::runtimeOutputsOf(aware.model, feeds)) <
          1e-3);
}

TEST_CASE("factorising by data needs data") {
    CHECK_THROWS_WITH(runPass(test::dataModel("vit_digits"), "low-rank", "activation-aware", "{}"),
                      Catch::Contains("--calibration"));
}

TEST_CASE("ranks within a budget are those of the least loss") {
    // Two matrices, all allocations tried: steps of 2 ranks within half of the parameters.
    passes::RankCurve steep{20, 30, {}, 1}, flat{25, 15, {}, 3};
    for (int i = 0; i < 20; ++i) steep.values.push_back(std::pow(0.7, i));
    for (int i = 0; i < 15; ++i) flat.values.push_back(0.5 - 0.01 * i);
    const auto loss = [&](const std::optional<std::int64_t>& a, const std::optional<std::int64_t>& b) {
        double sum = 0;
        if (a)
            for (std::size_t i = static_cast<std::size_t>(*a); i < steep.values.size(); ++i) sum += steep.values[i] * steep.values[i];
        if (b)
            for (std::size_t i = static_cast<std::size_t>(*b); i < flat.values.size(); ++i) sum += 3 * flat.values[i] * flat.values[i];
        return sum;
    };
    const auto found = passes::allocateRanks({steep, flat}, 0.6, 2);
    const auto used = [](const std::optional<std::int64_t>& rank, std::int64_t m, std::int64_t n) { return rank ? *rank * (m + n) : m * n; };
    const double budget = 0.6 * (20 * 30 + 25 * 15);
    CHECK(used(found[0], 20, 30) + used(found[1], 25, 15) <= budget);
    double best = 1e9;
    std::vector<std::optional<std::int64_t>> ofA = {std::nullopt}, ofB = {std::nullopt};
    for (std::int64_t rank = 2; rank < 12; rank += 2) ofA.push_back(rank), ofB.push_back(rank);
    for (const auto& a : ofA)
        for (const auto& b : ofB)
            if (used(a, 20, 30) + used(b, 25, 15) <= budget) best = std::min(best, loss(a, b));
    CHECK(loss(found[0], found[1]) <= 1.1 * best);
}

TEST_CASE("ranks shared out by the outputs' loss lose less than the same share everywhere") {
    const std::string name = GENERATE("vit_mnist5k", "gpt2_char");
    CAPTURE(name);
    const std::string file = name == "vit_mnist5k" ? "mnist5k_calibration" : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 64), other = samplesOf(file, 64, 96);
    const std::string targets = R"(, "multiple": 4, "targets": ["role:attention.*", "role:ffn.*"]})";
    const auto global = runPass(model, "low-rank", "activation-aware", R"({"keep": 0.5, "allocation": "global")" + targets, &fit);
    const auto uniform = runPass(model, "low-rank", "activation-aware", R"({"keep": 0.5)" + targets, &fit);
    CHECK(static_cast<double>(global.model.constantBytes()) < 1.05 * static_cast<double>(uniform.model.constantBytes()));
    CHECK(outputError(model, global.model, other) < outputError(model, uniform.model, other));
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(global.model);
    CHECK(test::largestDifference(test::outputsOf(global.model, feeds), test::runtimeOutputsOf(global.model, feeds)) < 1e-3);
}

TEST_CASE("a table's factors are nearest in the rows that are used") {
    const Tensor table = test::randomTensor({60, 12}, 3);
    std::vector<double> usage;
    for (int row = 0; row < 60; ++row) usage.push_back(row < 20 ? 1.0 : 0.01);
    const auto loss = [&](const Tensor& rows, const Tensor& basis, const std::vector<double>& weights) {
        double sum = 0;
        for (std::size_t i = 0; i < 60; ++i)
            for (std::size_t j = 0; j < 12; ++j) {
                double value = -table.data<float>()[i * 12 + j];
                for (std::size_t k = 0; k < 5; ++k) value += static_cast<double>(rows.data<float>()[i * 5 + k]) * basis.data<float>()[k * 12 + j];
                sum += weights[i] * value * value;
            }
        return sum;
    };
    double all = 0;
    for (std::size_t i = 0; i < 60; ++i)
        for (std::size_t j = 0; j < 12; ++j) all += usage[i] * std::pow(table.data<float>()[i * 12 + j], 2);
    const passes::TableFactors used = passes::usageWeightedFactors(table, usage, 5);
    const passes::TableFactors plain = passes::usageWeightedFactors(table, std::vector<double>(60, 1.0), 5);
    CHECK(std::sqrt(loss(used.rows, used.basis, usage) / all) == Approx(used.error).epsilon(1e-4));
    CHECK(loss(used.rows, used.basis, usage) < loss(plain.rows, plain.basis, usage));
    // With all rows alike it is the plain decomposition.
    const kernels::Svd svd = kernels::svd(table.data<float>(), 60, 12);
    double tail = 0;
    for (std::size_t i = 5; i < svd.s.size(); ++i) tail += std::pow(static_cast<double>(svd.s[i]), 2);
    CHECK(loss(plain.rows, plain.basis, std::vector<double>(60, 1.0)) == Approx(tail).epsilon(1e-4));
}

TEST_CASE("a named table is factorised by the use of its rows") {
    const ir::Model model = test::dataModel("llama_char");
    const data::Dataset samples = samplesOf("fortunes_char_calibration", 0, 32), other = samplesOf("fortunes_char_calibration", 64, 96);
    const auto aware = runPass(model, "low-rank", "activation-aware", R"({"rank": 24, "targets": ["role:embedding"]})", &samples);
    const auto plain = runPass(model, "low-rank", "svd", R"({"rank": 24, "targets": ["role:embedding"]})");
    REQUIRE(aware.report.changed.size() == 1);
    CHECK(aware.model.constantBytes() == plain.model.constantBytes());
    CHECK(outputError(model, aware.model, other) < outputError(model, plain.model, other));
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(aware.model);
    CHECK(test::largestDifference(test::outputsOf(aware.model, feeds), test::runtimeOutputsOf(aware.model, feeds)) < 1e-3);
}
