// A sparse matrix and a thin product: found again where they are there, and nearer together than either alone.

#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/linalg.h"
#include "lib/pipeline/records.h"
#include "passes/low_rank/sparse_low_rank.h"
#include "passes/support/sparse_obs.h"
#include "passes/support/sparse_optimum.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::noise;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

double lossOf(const std::vector<double>& h, std::vector<double> w, const std::vector<double>& best, std::int64_t outputs) {
    const auto inputs = static_cast<std::int64_t>(w.size()) / outputs;
    for (std::size_t i = 0; i < w.size(); ++i) w[i] -= best[i];
    std::vector<double> product(w.size());
    kernels::gemm(kernels::Transposition::no, kernels::Transposition::no, inputs, outputs, inputs, h, w, product);
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) sum += w[i] * product[i];
    return sum;
}

constexpr std::int64_t kInputs = 40, kOutputs = 30, kRank = 2, kKept = 150;

std::vector<double> momentOfRows() {
    const auto x = noise(200 * kInputs, 1);
    std::vector<double> h(kInputs * kInputs);
    kernels::gemm(kernels::Transposition::yes, kernels::Transposition::no, kInputs, kInputs, 200, x, x, h);
    return h;
}

}  // namespace

TEST_CASE("a matrix that is sparse and thin at once is found again, unless the sparse part hides the thin one") {
    // Rounds begin with the thin part. Outliers of 25 have forty times its energy: it follows them and never comes free of them, in
    // 64 rounds neither (0.18 of what the sparse part loses alone).
    const auto [outlier, ofThin, ofSparse] = GENERATE(table<double, double, double>({{5, 1e-6, 1e-6}, {25, 0.007, 0.25}}));
    CAPTURE(outlier);
    std::vector<double> made(kInputs * kOutputs);
    kernels::gemm(kernels::Transposition::no, kernels::Transposition::no, kInputs, kOutputs, kRank, noise(kInputs * kRank, 2),
                  noise(kRank * kOutputs, 3), made);
    // Five outliers an output.
    for (std::int64_t o = 0; o < kOutputs; ++o)
        for (std::int64_t k = 0; k < kKept / kOutputs; ++k) made[static_cast<std::size_t>((7 * k + o) % kInputs * kOutputs + o)] += outlier;
    const std::vector<double> h = momentOfRows();
    const SparseLowRank found = sparseLowRank(h, made, kOutputs, kKept, kRank, 8);
    CHECK(std::ssize(found.sparse) - std::count(found.sparse.begin(), found.sparse.end(), 0.0) <= kKept);
    const SparseMask alone = sweep(h, made, kOutputs, SparsePattern{}, 1 - static_cast<double>(kKept) / (kInputs * kOutputs)).mask;
    const double lost = lossOf(h, found.sum(), made, kOutputs);
    CHECK(lost < ofThin * whitenedSvd(h, made, kOutputs, kRank).lost);
    CHECK(lost < ofSparse * lossOf(h, sparseOptimum(h, made, kOutputs, alone), made, kOutputs));
}

TEST_CASE("a matrix without structure loses less to a sparse and a thin part than to a thin one of as many bytes") {
    const std::vector<double> h = momentOfRows();
    const auto other = noise(kInputs * kOutputs, 5);
    const SparseLowRankSize size = sparseLowRankSize(kInputs, kOutputs, 0.5, 0.3);
    CHECK(32 * (size.kept + size.rank * (kInputs + kOutputs)) + kInputs * kOutputs <= 32 * kInputs * kOutputs / 2);
    const double both = lossOf(h, sparseLowRank(h, other, kOutputs, size.kept, size.rank, 3).sum(), other, kOutputs);
    CHECK(both < whitenedSvd(h, other, kOutputs, size.rank).lost);
    CHECK(both < whitenedSvd(h, other, kOutputs, kInputs * kOutputs / 2 / (kInputs + kOutputs)).lost);
}

TEST_CASE("sparse and thin parts keep outputs nearer than thin ones of as many bytes, in ONNX Runtime too") {
    const std::string name = GENERATE("vit_digits", "gpt2_char");
    CAPTURE(name);
    const ir::Model model = test::dataModel(name);
    const std::string file = name == "vit_digits" ? "digits_calibration" : "fortunes_char_calibration";
    const data::Dataset fit = samplesOf(file, 0, 48), other = samplesOf(file, 64, 96);
    const std::string targets = R"(, "targets": ["role:attention.*", "role:ffn.*"]})";
    const auto both = runPass(model, "low-rank", "sparse-residual", R"({"keep": 0.5, "rounds": 2)" + targets, &fit);
    const auto thin = runPass(model, "low-rank", "activation-aware", R"({"keep": 0.5)" + targets, &fit);
    REQUIRE_FALSE(both.report.changed.empty());
    CHECK(outputError(model, both.model, other) < outputError(model, thin.model, other));
    const auto stored = runPass(both.model, "store-sparse", "", "{}");
    CHECK(stored.report.changed.size() == both.report.changed.size());
    CHECK(analysis::recognise(stored.model).blocks.size() == analysis::recognise(model).blocks.size());
    CHECK(pipeline::predictedFileBytes(stored.model) < 0.75 * static_cast<double>(pipeline::predictedFileBytes(model)));
    const test::Feeds feeds = test::feedsFor(model);
    CHECK(test::largestDifference(test::outputsOf(stored.model, feeds), test::outputsOf(both.model, feeds)) < 1e-6);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::runtimeOutputsOf(stored.model, feeds), test::outputsOf(both.model, feeds)) < 1e-4);
}
