// Smaller heads: bases against their definition, and real models before and after.

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/linalg.h"
#include "lib/analysis/shrink.h"
#include "lib/ir/validate.h"
#include "passes/low_rank/head_basis.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using kernels::Transposition;
using test::noise;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

constexpr std::int64_t kSize = 6, kRows = 40;

std::vector<double> product(Transposition ta, Transposition tb, std::int64_t m, std::int64_t n, std::int64_t inner,
                            const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<double> c(static_cast<std::size_t>(m * n));
    kernels::gemm(ta, tb, m, n, inner, a, b, c);
    return c;
}

/// Rows whose directions are of very different size, so that the order of the basis shows.
std::vector<double> steep(std::uint64_t seed) {
    std::vector<double> rows = noise(kRows * kSize, seed);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= 1.0 + 3.0 * static_cast<double>(i % kSize);
    return product(Transposition::no, Transposition::no, kRows, kSize, kSize, rows, noise(kSize * kSize, seed + 50));
}

/// All but the first `kept` columns zero.
std::vector<double> first(std::vector<double> rows, std::int64_t kept, std::int64_t columns) {
    for (std::size_t i = 0; i < rows.size(); ++i)
        if (static_cast<std::int64_t>(i) % columns >= kept) rows[i] = 0;
    return rows;
}

double squaredDifference(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

}  // namespace

TEST_CASE("the score basis changes no score, and its first positions are the best approximation of their rank") {
    const auto q = steep(1), k = steep(2);
    const auto moment = [](const std::vector<double>& rows) { return product(Transposition::yes, Transposition::no, kSize, kSize, kRows, rows, rows); };
    const passes::HeadBasis basis = passes::scoreBasis(moment(q), moment(k), kSize);
    const auto turnedQ = product(Transposition::no, Transposition::no, kRows, kSize, kSize, q, basis.left);
    const auto turnedK = product(Transposition::no, Transposition::no, kRows, kSize, kSize, k, basis.right);
    const auto scores = product(Transposition::no, Transposition::yes, kRows, kRows, kSize, q, k);
    const double all = squaredDifference(scores, std::vector<double>(scores.size()));
    CHECK(squaredDifference(scores, product(Transposition::no, Transposition::yes, kRows, kRows, kSize, turnedQ, turnedK)) < 1e-9 * all);
    const kernels::Svd svd = kernels::svd(std::vector<float>(scores.begin(), scores.end()), kRows, kRows);
    for (std::int64_t kept = 1; kept < kSize; ++kept) {
        double tail = 0;
        for (std::int64_t i = kept; i < kSize; ++i) tail += std::pow(static_cast<double>(svd.s[static_cast<std::size_t>(i)]), 2);
        const auto cut = product(Transposition::no, Transposition::yes, kRows, kRows, kSize, first(turnedQ, kept, kSize), turnedK);
        CHECK(squaredDifference(scores, cut) == Approx(tail).epsilon(0.01));
    }
}

TEST_CASE("the context basis changes no output, and its first positions are the best approximation of their rank") {
    const auto c = steep(3), w = noise(kSize * 9, 4);
    const auto moment = product(Transposition::yes, Transposition::no, kSize, kSize, kRows, c, c);
    const passes::HeadBasis basis = passes::contextBasis(moment, w, kSize);
    const auto turned = product(Transposition::no, Transposition::no, kRows, kSize, kSize, c, basis.left);
    const auto weight = product(Transposition::no, Transposition::no, kSize, 9, kSize, basis.right, w);
    const auto output = product(Transposition::no, Transposition::no, kRows, 9, kSize, c, w);
    const double all = squaredDifference(output, std::vector<double>(output.size()));
    CHECK(squaredDifference(output, product(Transposition::no, Transposition::no, kRows, 9, kSize, turned, weight)) < 1e-9 * all);
    const kernels::Svd svd = kernels::svd(std::vector<float>(output.begin(), output.end()), kRows, 9);
    for (std::int64_t kept = 1; kept < kSize; ++kept) {
        double tail = 0;
        for (std::size_t i = static_cast<std::size_t>(kept); i < svd.s.size(); ++i) tail += std::pow(static_cast<double>(svd.s[i]), 2);
        const auto cut = product(Transposition::no, Transposition::no, kRows, 9, kSize, first(turned, kept, kSize), weight);
        CHECK(squaredDifference(output, cut) == Approx(tail).epsilon(0.01));
    }
}

TEST_CASE("heads become smaller, and outputs stay nearer than without new bases and than with half of the heads") {
    const std::string name = GENERATE("vit_mnist5k", "gpt2_char", "gpt2_char_kv", "t5_char_encoder");
    CAPTURE(name);
    const std::string file = name == "vit_mnist5k" ? "mnist5k_calibration" : name == "t5_char_encoder" ? "devowel_calibration" : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 48), other = samplesOf(file, 64, 96);
    const auto [thin, report] = runPass(model, "low-rank", "attention", R"({"keep": 0.5, "multiple": 4})", &fit);
    ir::validateStructure(thin);
    const auto before = analysis::recognise(model), after = analysis::recognise(thin);
    REQUIRE(report.changed.size() == before.attention.size());
    for (std::size_t i = 0; i < after.attention.size(); ++i) {
        CHECK(after.attention[i].headDim * 2 == before.attention[i].headDim);
        CHECK(after.attention[i].valueDim * 2 == before.attention[i].valueDim);
        CHECK(after.attention[i].heads == before.attention[i].heads);
    }
    // The same positions cut without new bases.
    ir::Model plain = model.clone();
    analysis::KeepMasks keep;
    for (const auto& layer : before.attention)
        for (const auto* leaves : {&layer.headDimLeaves, &layer.valueDimLeaves}) {
            std::vector<bool> mask(static_cast<std::size_t>(before.axes->store->leafSize(leaves->front())), true);
            std::fill(mask.begin() + static_cast<std::ptrdiff_t>(mask.size() / 2), mask.end(), false);
            keep[leaves->front()] = mask;
        }
    analysis::shrink(plain, *analysis::recognise(plain).axes, keep, "test");
    CHECK(outputError(model, thin, other) < 0.5 * outputError(model, plain, other));
    // Half of the heads of the T5 encoder do next to nothing: without them it loses 0.005, with half of each head 0.008.
    if (name != "t5_char_encoder") {
        const auto removed = runPass(model, "remove-heads", "", R"({"ratio": 0.5, "compensate": false})", &fit);
        CHECK(outputError(model, thin, other) < 0.1 * outputError(model, removed.model, other));
    }
    if (!test::haveJudge()) return;
    const test::Feeds feeds = test::feedsFor(thin);
    CHECK(test::largestDifference(test::outputsOf(thin, feeds), test::runtimeOutputsOf(thin, feeds)) < 1e-3);
}

TEST_CASE("rotary positions are refused") {
    const data::Dataset samples = samplesOf("fortunes_char_calibration", 0, 32);
    const ir::Model model = test::dataModel("llama_char");
    const auto [same, report] = runPass(model, "low-rank", "attention", R"({"keep": 0.5})", &samples);
    CHECK(report.changed.empty());
    CHECK(report.skipped.size() == analysis::recognise(model).attention.size());
    CHECK(same.constantBytes() == model.constantBytes());
}
