// Layers that share their weights: the solver against its definition, layers that are the same but for the order of their
// neurons, and real models against plain averages.

#include <catch2/catch.hpp>
#include <algorithm>
#include <numeric>

#include "kernels/linalg.h"
#include "lib/ir/edit.h"
#include "lib/ir/validate.h"
#include "passes/share/assignment.h"
#include "passes/share/layer_groups.h"
#include "passes/share/shared_fit.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using analysis::TransformerView;
using test::noise;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

constexpr std::int64_t kInputs = 7, kOutputs = 5;

passes::LayerOptimum layerOf(std::uint64_t seed) {
    const auto x = noise(30 * kInputs, seed);
    passes::LayerOptimum layer;
    layer.hessian.resize(kInputs * kInputs);
    kernels::gemm(kernels::Transposition::yes, kernels::Transposition::no, kInputs, kInputs, 30, x, x, layer.hessian);
    layer.optimum = noise(kInputs * kOutputs, seed + 1);
    return layer;
}

/// `source` with stretches of `block` positions of an axis in another order.
Tensor permuted(const Tensor& source, std::int64_t axis, std::int64_t block) {
    Tensor target = source;
    const auto values = target.mutableData<float>();
    const std::int64_t units = source.shape()[static_cast<std::size_t>(axis)] / block;
    const std::int64_t inner = (axis + 1 == source.rank() ? 1 : source.shape().back()) * block;
    for (std::int64_t i = 0; i < source.size(); ++i) {
        const std::int64_t unit = i / inner % units, other = (unit * 5 + 3) % units;
        values[static_cast<std::size_t>(i)] = source.data<float>()[static_cast<std::size_t>(i + (other - unit) * inner)];
    }
    return target;
}

/// vit_digits whose attention layer 2 does what layer 0 does, its heads in another order.
ir::Model withPermutedHeads() {
    ir::Model model = test::dataModel("vit_digits");
    analysis::unshareVectors(model);
    const TransformerView view = analysis::recognise(model);
    const analysis::AttentionLayer &from = view.attention[0], &to = view.attention[2];
    ir::Edit edit(model, "test");
    const auto copy = [&](std::size_t source, std::size_t target) {
        const analysis::Site &a = view.sites[source], &b = view.sites[target];
        edit.setConstant(b.weight, permuted(*a.weight->constant(), static_cast<std::int64_t>(a.outAxis), from.headDim));
        edit.setConstant(b.bias, permuted(*a.bias->constant(), 0, from.headDim));
    };
    copy(from.q.front(), to.q.front());
    copy(from.k.front(), to.k.front());
    copy(from.v.front(), to.v.front());
    const analysis::Site& output = view.sites[from.o.front()];
    edit.setConstant(view.sites[to.o.front()].weight, permuted(*output.weight->constant(), static_cast<std::int64_t>(output.inAxis), from.valueDim));
    edit.commit();
    return model;
}

/// vit_digits whose feed-forward layer 2 does what layer 0 does, its neurons in another order.
ir::Model withPermutedTwin() {
    ir::Model model = test::dataModel("vit_digits");
    analysis::unshareVectors(model);
    const TransformerView view = analysis::recognise(model);
    const auto site = [&](std::size_t layer, bool up) -> const analysis::Site& {
        return view.sites[(up ? view.feedForward[layer].up : view.feedForward[layer].down).front()];
    };
    ir::Edit edit(model, "test");
    const auto copy = [&](const ir::Value* from, ir::Value* to, std::int64_t axis) { edit.setConstant(to, permuted(*from->constant(), axis, 1)); };
    copy(site(0, true).weight, site(2, true).weight, static_cast<std::int64_t>(site(0, true).outAxis));
    copy(site(0, true).bias, site(2, true).bias, 0);
    copy(site(0, false).weight, site(2, false).weight, static_cast<std::int64_t>(site(0, false).inAxis));
    edit.commit();
    return model;
}

}  // namespace

TEST_CASE("shared weights solve the problem they state, and no turn raises the loss") {
    std::vector<passes::LayerOptimum> layers = {layerOf(1), layerOf(3), layerOf(5)};
    layers[1].importance = 2.5;
    passes::SharedWeights start{noise(kInputs * kOutputs, 9), {}};
    for (std::uint64_t l = 0; l < 3; ++l) start.scales.push_back(noise(kInputs, 20 + l));
    double before = passes::sharedLoss(layers, start);
    for (int rounds = 0; rounds < 6; ++rounds) {
        const double after = passes::sharedLoss(layers, passes::fitShared(layers, start, rounds));
        CHECK(after < before);
        before = after;
    }
    // With these scales no other weights are better, with these weights no other scales.
    const passes::SharedWeights found = passes::fitShared(layers, start, 400);
    const double least = passes::sharedLoss(layers, found);
    for (std::uint64_t seed = 40; seed < 60; ++seed) {
        passes::SharedWeights other = found;
        const auto step = noise(kInputs * kOutputs, seed);
        for (std::size_t i = 0; i < step.size(); ++i) other.weight[i] += 0.01 * step[i];
        CHECK(passes::sharedLoss(layers, other) > least);
        other = found;
        const auto scale = noise(kInputs, seed + 100);
        for (std::size_t i = 0; i < scale.size(); ++i) other.scales[seed % 3][i] += 0.1 * scale[i];
        CHECK(passes::sharedLoss(layers, other) > least);
    }
}

TEST_CASE("the best assignment is that of all permutations") {
    constexpr std::size_t kSize = 6;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        const auto gain = noise(kSize * kSize, seed);
        const auto sum = [&](const std::vector<std::size_t>& permutation) {
            double total = 0;
            for (std::size_t i = 0; i < kSize; ++i) total += gain[i * kSize + permutation[i]];
            return total;
        };
        std::vector<std::size_t> permutation(kSize);
        std::iota(permutation.begin(), permutation.end(), std::size_t{0});
        double best = -1e9;
        do best = std::max(best, sum(permutation));
        while (std::next_permutation(permutation.begin(), permutation.end()));
        CHECK(sum(passes::bestAssignment(gain, kSize)) == Approx(best));
    }
}

TEST_CASE("layers near each other are grouped") {
    // 0 ~ 3, 1 ~ 4, 2 alone.
    std::vector<double> distances(25, 5.0);
    distances[0 * 5 + 3] = distances[3 * 5 + 0] = distances[1 * 5 + 4] = distances[4 * 5 + 1] = 0.1;
    CHECK(passes::nearestGroups(distances, 5, 2) == std::vector<passes::LayerGroup>{{0, 3}, {1, 4}, {2}});
}

TEST_CASE("layers that differ in the order of their neurons share weights without loss") {
    const ir::Model model = withPermutedTwin();
    const data::Dataset samples = samplesOf("digits_calibration", 0, 64);
    const auto [shared, report] = runPass(model, "share-parameters", "feed-forward", R"({"group_size": 2})", &samples);
    ir::validateStructure(shared);
    const auto twin = std::find_if(report.changed.begin(), report.changed.end(), [](const auto& changed) {
        return changed.change.find("layers 0, 2 share") != std::string::npos;
    });
    REQUIRE(twin != report.changed.end());
    CHECK(twin->change.find("averages of matched neurons") != std::string::npos);
    const auto only = runPass(model, "share-parameters", "feed-forward", R"({"groups": ["0,2"]})", &samples);
    CHECK(outputError(model, only.model, samplesOf("digits_calibration", 64, 96)) < 1e-5);
    REQUIRE(only.report.changed.size() == 2);
    // The sums are of float32 products: below this errors are rounding.
    for (const auto& changed : only.report.changed) CHECK(changed.error < 3e-3);
}

TEST_CASE("attention layers whose heads are in another order share weights without loss") {
    const ir::Model model = withPermutedHeads();
    const data::Dataset samples = samplesOf("digits_calibration", 0, 64);
    const auto [shared, report] = runPass(model, "share-parameters", "attention", R"({"groups": ["0,2"]})", &samples);
    ir::validateStructure(shared);
    REQUIRE(report.changed.size() == 2);
    CHECK_THAT(report.changed.front().change, Catch::Contains("attention layers 0, 2 share"));
    for (const auto& changed : report.changed) CHECK(changed.error < 3e-3);
    CHECK(outputError(model, shared, samplesOf("digits_calibration", 64, 96)) < 1e-5);
    CHECK(shared.constantBytes() < model.constantBytes());
}

TEST_CASE("attention layers that are alike find each other") {
    const ir::Model model = withPermutedHeads();
    const data::Dataset samples = samplesOf("digits_calibration", 0, 64);
    // In a second round layer 2 reads what layers 1 and 3, which differ, have become: then the twins make a compromise.
    const auto [shared, report] =
        runPass(model, "share-parameters", "attention", R"({"group_size": 2, "rounds": 1})", &samples);
    ir::validateStructure(shared);
    REQUIRE(report.changed.size() == 4);
    for (const std::size_t i : {0U, 1U})
        CHECK_THAT(report.changed[i].change, Catch::Contains("attention layers 0, 2 share their weights (averages of matched heads)"));
    for (const std::size_t i : {2U, 3U}) CHECK_THAT(report.changed[i].change, Catch::Contains("attention layers 1, 3 share"));
    CHECK(report.changed.front().error < 3e-3);
    CHECK(shared.constantBytes() < model.constantBytes());
}

TEST_CASE("attention with a bias of each head's own does not share its weights") {
    const auto [same, report] = runPass(test::dataModel("t5_char_encoder"), "share-parameters", "attention", "{}");
    CHECK(report.changed.empty());
    REQUIRE_FALSE(report.skipped.empty());
    CHECK(report.skipped.front().reason == "its scores get a bias of each head's own");
}

TEST_CASE("weights solved for on data keep outputs nearer than plain averages") {
    // The T5 encoder has two layers that differ much: what they share loses 0.56 of what plain averages lose.
    const auto [name, method, bound] =
        GENERATE(table<std::string, std::string, double>({{"vit_digits", "feed-forward", 0.5},
                                                          {"gpt2_char", "feed-forward", 0.5},
                                                          {"llama_char", "feed-forward", 0.5},
                                                          {"t5_char_encoder", "feed-forward", 0.6},
                                                          {"vit_digits", "attention", 0.5},
                                                          {"gpt2_char", "attention", 0.5},
                                                          {"llama_char", "attention", 0.5}}));
    const bool automatic = GENERATE(true, false);
    CAPTURE(name, method, automatic);
    const std::string file = name == "vit_digits"        ? "digits_calibration"
                             : name == "t5_char_encoder" ? "devowel_calibration"
                                                         : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 32), other = samplesOf(file, 64, 96);
    const std::string groups = automatic ? "" : R"("groups": ["0,1"])", comma = automatic ? "" : ", ";
    const auto with = runPass(model, "share-parameters", method, "{" + groups + "}", &fit);
    const auto without = runPass(model, "share-parameters", method, "{" + groups + comma + R"("compensate": false})");
    ir::validateStructure(with.model);
    const TransformerView view = analysis::recognise(model);
    const std::size_t layers = method == "attention" ? view.attention.size() : view.feedForward.size();
    CHECK(with.report.changed.size() == (automatic ? layers / 2 * 2 : 2));
    for (const auto& changed : with.report.changed) CHECK(changed.error > 0);
    CHECK(without.model.constantBytes() < model.constantBytes());
    CHECK(outputError(model, with.model, other) < bound * outputError(model, without.model, other));
    if (automatic || !test::haveJudge()) return;
    for (const auto* shared : {&with.model, &without.model}) {
        const test::Feeds feeds = test::feedsFor(*shared);
        CHECK(test::largestDifference(test::outputsOf(*shared, feeds), test::runtimeOutputsOf(*shared, feeds)) < 1e-3);
    }
}

TEST_CASE("layers that share their weights are left alone, and wrong groups are refused") {
    const ir::Model model = test::dataModel("vit_digits");
    const auto once = runPass(model, "share-parameters", "feed-forward", R"({"groups": ["0,1"]})");
    const auto again = runPass(once.model, "share-parameters", "feed-forward", "{}");
    CHECK(again.report.skipped.size() == 2);
    for (const auto& skipped : again.report.skipped) CHECK(skipped.reason == "its weights are shared already");
    CHECK_THROWS_WITH(runPass(model, "share-parameters", "feed-forward", R"({"groups": ["0,9"]})"),
                      Catch::Contains("feed-forward layer 9 cannot share"));
}
