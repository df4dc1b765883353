// Factors fitted to data: the loss in closed form, and better outputs than a plain decomposition.

#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/linalg.h"
#include "passes/low_rank/whitened_svd.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

std::vector<double> noise(std::int64_t count, std::uint64_t seed) {
    const Tensor tensor = test::randomTensor({count}, seed, 1.0);
    const auto values = tensor.data<float>();
    return {values.begin(), values.end()};
}

}  // namespace

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
