// Distillation: batches in turn, and models that come nearer to the original on samples that they never saw.

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/analysis/transformer_view.h"
#include "lib/exec/executor.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"
#include "passes/distill/batches.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using Catch::Matchers::Contains;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

/// Whether both hold the same bytes in all their initializers.
bool sameConstants(const ir::Model& a, const ir::Model& b) {
    for (const auto& node : a.graph().nodes())
        for (const ir::Value* input : node->inputs()) {
            if (input == nullptr || input->constant() == nullptr) continue;
            const auto mine = input->constant()->bytes(), its = b.graph().find(input->name())->constant()->bytes();
            if (!std::equal(mine.begin(), mine.end(), its.begin(), its.end())) return false;
        }
    return true;
}

/// Ids that name their sample, behind a mask of so many tokens each.
data::Dataset sentences(const std::vector<std::int64_t>& lengths, std::int64_t longest) {
    const std::int64_t count = std::ssize(lengths);
    Tensor ids(DType::int64, {count, longest}), mask(DType::int64, {count, longest});
    for (std::int64_t i = 0; i < count; ++i)
        for (std::int64_t at = 0; at < lengths[static_cast<std::size_t>(i)]; ++at) {
            ids.mutableData<std::int64_t>()[static_cast<std::size_t>(i * longest + at)] = i + 1;
            mask.mutableData<std::int64_t>()[static_cast<std::size_t>(i * longest + at)] = 1;
        }
    return {{{"input_ids", ids}, {"attention_mask", mask}}, std::nullopt, "test"};
}

}  // namespace

TEST_CASE("Each sample has its turn once an epoch, beside others of about its length") {
    const ir::Model model = test::dataModel("bert_tiny");
    std::vector<std::int64_t> lengths;
    for (std::int64_t i = 0; i < 32; ++i) lengths.push_back(i % 2 == 0 ? 3 : 40);
    const data::Dataset samples = data::fitToModel(sentences(lengths, 64), model);
    passes::LearningBatches batches(model, samples, 4, Random(1, "test"));
    std::vector<std::vector<std::int64_t>> epochs(2);
    for (std::vector<std::int64_t>& seen : epochs)
        for (int batch = 0; batch < 8; ++batch) {
            const exec::Feeds feeds = batches.next();
            const Tensor& ids = feeds.at("input_ids");
            REQUIRE(ids.shape()[0] == 4);
            const std::int64_t length = ids.shape()[1];
            CHECK((length == 16 || length == 48));
            CHECK(feeds.at("attention_mask").shape() == ids.shape());
            for (std::int64_t row = 0; row < 4; ++row) {
                seen.push_back(ids.data<std::int64_t>()[static_cast<std::size_t>(row * length)]);
                CHECK((seen.back() % 2 == 1) == (length == 16));
            }
        }
    CHECK(epochs[0] != epochs[1]);
    for (std::vector<std::int64_t>& seen : epochs) {
        std::sort(seen.begin(), seen.end());
        for (std::int64_t i = 0; i < 32; ++i) CHECK(seen[static_cast<std::size_t>(i)] == i + 1);
    }
}

TEST_CASE("A pruned model comes nearer to the original, on samples that nobody saw and in ONNX Runtime") {
    const ir::Model original = test::dataModel("vit_digits");
    const ir::Model pruned = runPass(original, "prune", "neuron", R"({"sparsity": 0.6})").model;
    const data::Dataset samples = samplesOf("digits_train", 0, 256), others = samplesOf("digits_validation", 0, 128);
    const std::string options = R"({"steps": 60, "learning_rate": 1e-3})";
    const test::PassResult taught = runPass(pruned, "distill", "", options, &samples, &original);
    CHECK(outputError(original, taught.model, others) < 0.5 * outputError(original, pruned, others));
    CHECK(taught.report.changed.back().site == "gains and biases");
    CHECK_THAT(taught.report.notes.back(), Contains("error of the outputs on held-back samples"));

    setThreadCount(1);
    const test::PassResult again = runPass(pruned, "distill", "", options, &samples, &original);
    setThreadCount(0);
    CHECK(sameConstants(again.model, taught.model));

    if (!test::haveJudge()) return;
    const exec::Feeds feeds = others.rows(0, 16);
    CHECK(test::largestDifference(test::outputsOf(taught.model, feeds), test::runtimeOutputsOf(taught.model, feeds)) < 1e-4);
}

TEST_CASE("The rate that is found is better than the one it is looked for from") {
    const ir::Model original = test::dataModel("vit_digits");
    const ir::Model pruned = runPass(original, "prune", "neuron", R"({"sparsity": 0.6})").model;
    const data::Dataset samples = samplesOf("digits_train", 0, 256), others = samplesOf("digits_validation", 0, 128);
    const test::PassResult found = runPass(pruned, "distill", "", R"({"steps": 100})", &samples, &original);
    const test::PassResult first = runPass(pruned, "distill", "", R"({"steps": 100, "learning_rate": 1e-4})", &samples, &original);
    CHECK(outputError(original, found.model, others) < 0.8 * outputError(original, first.model, others));
    // A step that makes everything worse is not where it ends either.
    const test::PassResult rough = runPass(found.model, "distill", "", R"({"steps": 30, "targets": ["role:classifier"]})", &samples, &original);
    CHECK(outputError(original, rough.model, others) < 1.05 * outputError(original, found.model, others));
}

TEST_CASE("Only what is named learns, and blocks' outputs count by their weight") {
    const ir::Model original = test::dataModel("vit_digits");
    const ir::Model pruned = runPass(original, "prune", "neuron", R"({"sparsity": 0.6})").model;
    const data::Dataset samples = samplesOf("digits_train", 0, 128), others = samplesOf("digits_validation", 0, 64);
    const analysis::TransformerView view = analysis::recognise(pruned);
    const test::PassResult named = runPass(pruned, "distill", "", R"({"steps": 20, "learning_rate": 1e-3, "targets": ["role:ffn.down"]})", &samples, &original);
    for (const analysis::Site& site : view.sites) {
        if (site.weight->constant() == nullptr) continue;
        const auto before = site.weight->constant()->bytes(), after = named.model.graph().find(site.weight->name())->constant()->bytes();
        INFO(site.name);
        CHECK(std::equal(before.begin(), before.end(), after.begin()) == (site.role != analysis::SiteRole::ffnDown));
    }

    // The first block's output: the last's and the model's go together.
    const std::string stream = view.blocks.front().output->name();
    const auto streamError = [&](const char* hidden) {
        const std::string options = std::string(R"({"steps": 60, "learning_rate": 1e-3, "hidden": )") + hidden + "}";
        const test::PassResult taught = runPass(pruned, "distill", "", options, &samples, &original);
        const auto valueIn = [&](const ir::Model& model) {
            exec::Executor executor(model, {.outputs = std::vector<const ir::Value*>{model.graph().find(stream)}});
            return executor.run(others.rows(0, 64));
        };
        return test::largestDifference(valueIn(taught.model), valueIn(original));
    };
    CHECK(streamError("10") < streamError("0"));
}

TEST_CASE("Zeros of pruned matrices stay") {
    const ir::Model original = test::dataModel("vit_digits");
    const ir::Model pruned = runPass(original, "prune", "magnitude", R"({"sparsity": 0.7})").model;
    const data::Dataset samples = samplesOf("digits_train", 0, 256), others = samplesOf("digits_validation", 0, 128);
    const test::PassResult taught = runPass(pruned, "distill", "", R"({"steps": 50, "learning_rate": 3e-4, "hidden": 0, "loss": "kl"})", &samples, &original);
    CHECK(outputError(original, taught.model, others) < 0.7 * outputError(original, pruned, others));
    std::int64_t zeros = 0;
    for (const auto& node : pruned.graph().nodes()) {
        const ir::Value* weight = node->input(1);
        if (!(node->is("MatMul") || node->is("Gemm")) || weight == nullptr || weight->constant() == nullptr) continue;
        const auto before = weight->constant()->data<float>(), after = taught.model.graph().find(weight->name())->constant()->data<float>();
        for (std::size_t i = 0; i < before.size(); ++i) {
            if (before[i] != 0) continue;
            ++zeros;
            REQUIRE(after[i] == 0);
        }
    }
    CHECK(zeros > 10000);
}

TEST_CASE("Samples are made to learn from, and to judge by, where that is asked for") {
    const ir::Model original = test::dataModel("vit_digits");
    const ir::Model pruned = runPass(original, "prune", "neuron", R"({"sparsity": 0.6})").model;
    const data::Dataset samples = samplesOf("digits_train", 0, 32), others = samplesOf("digits_validation", 0, 128);
    const auto errorWith = [&](const std::string& options, const std::string& text) {
        const test::PassResult taught = runPass(pruned, "distill", "", options, &samples, &original);
        CHECK_THAT(taught.report.notes.back(), Contains(text));
        return outputError(original, taught.model, others);
    };
    const double given = errorWith(R"({"steps": 100, "learning_rate": 1e-3})", "each of 16 of 24 samples (24 given)");
    const double made = errorWith(R"({"steps": 100, "learning_rate": 1e-3, "enlarge": 16})", "each of 16 of 384 samples (24 given)");
    CHECK(made < given);
}

TEST_CASE("A model is left alone where it cannot learn, and says so") {
    const ir::Model original = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_train", 0, 32), one = samplesOf("digits_train", 0, 1);
    CHECK_THROWS_WITH(runPass(original, "distill", "", "{}", &samples, &original), Contains("put this pass behind those that change it"));
    const ir::Model pruned = runPass(original, "prune", "neuron", R"({"sparsity": 0.5})").model;
    CHECK_THROWS_WITH(runPass(pruned, "distill", "", "{}", &one, &original), Contains("2 samples are needed to learn from, and 1 is there"));
    const ir::Model rounded = runPass(original, "quantize", "dynamic", "{}").model;
    CHECK_THROWS_WITH(runPass(rounded, "distill", "", "{}", &samples, &original), Contains("put this pass before those that round activations"));
    const test::PassResult still = runPass(pruned, "distill", "", R"({"steps": 2, "learning_rate": 1})", &samples, &original);
    CHECK(still.report.changed.empty());
    CHECK_THAT(still.report.notes.back(), Contains("the weights stay as they were"));
    CHECK(sameConstants(still.model, pruned));
}
