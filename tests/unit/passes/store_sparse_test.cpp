// Constants without their zeros: the same bits when they are put back, in fewer bytes, here and in ONNX Runtime.

#include <fmt/core.h>

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/analysis/cost.h"
#include "lib/analysis/sparse_storage.h"
#include "lib/exec/executor.h"
#include "lib/ir/edit.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "lib/pipeline/records.h"
#include "lib/support/random.h"
#include "passes/support/sparse_form.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::runPass;
using test::skippedSite;

namespace {

/// Zeros with a probability, of both signs.
Tensor sparseTensor(const Shape& shape, double zeros, std::uint64_t seed = 3) {
    Tensor tensor = test::randomTensor(shape, seed);
    Random random(seed, "zeros");
    for (float& value : tensor.mutableData<float>())
        if (random.uniform() < zeros) value = std::copysign(0.0F, value);
    return tensor;
}

/// Of every `group` entries along the axis at most `keep` are left.
Tensor groupedTensor(std::int64_t rows, std::int64_t columns, std::int64_t axis, std::int64_t keep, std::int64_t group) {
    Tensor tensor = test::randomTensor({rows, columns}, 11);
    Random random(4, "groups");
    const auto values = tensor.mutableData<float>();
    const std::int64_t length = axis == 0 ? rows : columns;
    for (std::int64_t other = 0; other < rows * columns / length; ++other)
        for (std::int64_t begin = 0; begin < length; begin += group) {
            std::vector<std::int64_t> order;
            for (std::int64_t i = 0; i < group; ++i) order.push_back(begin + i);
            for (std::int64_t i = group; i-- > keep;) {
                const auto gone = static_cast<std::int64_t>(random.uniform() * static_cast<double>(i + 1));
                const std::int64_t at = order[static_cast<std::size_t>(gone)];
                order.erase(order.begin() + gone);
                values[static_cast<std::size_t>(axis == 0 ? at * columns + other : other * columns + at)] = 0;
            }
        }
    return tensor;
}

/// What a graph computes of a stored tensor, and the bytes of its initializers of values and places.
struct Restored {
    Tensor tensor;
    std::int64_t bytes = 0;
};
Restored restored(const Tensor& tensor, const SparseForm& form) {
    ir::Model model = test::modelWithWeights(
        R"(<ir_version: 8, opset_import: ["" : 11]> g (float[1] x) => (float[1] z, float[1] y) { z = Identity(x) y = Identity(x) })",
        {});
    ir::Edit edit(model, "test");
    edit.replaceAllUses(model.graph().find("y"), SparseWriter(edit).store("w", tensor, form));
    edit.commit();
    Restored found;
    for (const ir::Value* value : model.graph().initializers())
        if (value->name() == "w_values" || value->name() == "w_places")
            found.bytes += static_cast<std::int64_t>(value->constant()->sizeBytes());
    exec::ExecutorOptions options;
    options.fusion = exec::Fusion::none;
    found.tensor = exec::Executor(model, std::move(options)).run({{"x", Tensor(DType::float32, {1})}}).back();
    return found;
}

const char* const kText = R"(
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,96] x) => (float[N,64] y)
    <float a = {0}, float b = {0}>
    {
        [first] h = MatMul(x, a)
        r = Relu(h)
        [second] y = Gemm<transB = 1>(r, b)
    })";

ir::Model pruned(const Tensor& a, const Tensor& b) {
    ir::Model model = test::modelWithWeights(kText, {{"a", {96, 128}}, {"b", {64, 128}}});
    ir::Edit edit(model, "test");
    edit.setConstant(model.graph().find("a"), a);
    edit.setConstant(model.graph().find("b"), b);
    edit.commit();
    return model;
}

}  // namespace

TEST_CASE("a tensor comes back from a bitmask as it was, in the bytes that were predicted") {
    const Shape shape = GENERATE(Shape{8}, Shape{17}, Shape{3, 5}, Shape{24, 31}, Shape{2, 3, 40}, Shape{64, 64});
    const double zeros = GENERATE(0.3, 0.5, 0.9, 1.0);
    const Tensor tensor = sparseTensor(shape, zeros);
    const auto form = sparseForm(tensor, SparseStorageKind::bitmask);
    if (!form) {
        CHECK((tensor.size() < 40 || zeros < 0.1));
        return;
    }
    CHECK_FALSE(form->isGrouped());
    const Restored back = restored(tensor, *form);
    CHECK(back.bytes == form->bytes);
    CHECK(back.bytes < static_cast<std::int64_t>(tensor.sizeBytes()));
    REQUIRE(back.tensor.shape() == shape);
    for (std::size_t i = 0; i < static_cast<std::size_t>(tensor.size()); ++i)
        CHECK(std::bit_cast<std::uint32_t>(back.tensor.data<float>()[i]) ==
              std::bit_cast<std::uint32_t>(tensor.data<float>()[i] + 0.0F));
}

TEST_CASE("N:M is found along either axis and takes fewer bytes than a bitmask") {
    struct Case {
        std::int64_t keep, group;
        double bits;  ///< of places, an entry
    };
    const Case pattern = GENERATE(Case{2, 4, 2.0 / 3}, Case{1, 4, 0.5}, Case{3, 4, 0.5}, Case{1, 2, 0.5}, Case{1, 8, 0.5},
                                  Case{1, 16, 0.25}, Case{2, 16, 0.5});
    const std::int64_t axis = GENERATE(0, 1);
    // 96 · 112 / 4 groups are not a multiple of the three that share a byte with one row more.
    const std::int64_t other = GENERATE(112, 7);
    const Tensor tensor = axis == 0 ? groupedTensor(96, other, 0, pattern.keep, pattern.group)
                                    : groupedTensor(other, 96, 1, pattern.keep, pattern.group);
    INFO(pattern.keep << ":" << pattern.group << " along " << axis << ", " << other);
    const auto form = sparseForm(tensor, SparseStorageKind::automatic);
    REQUIRE(form);
    REQUIRE(form->isGrouped());
    CHECK(form->alongFirstAxis == (axis == 0));
    CHECK(form->bytes < sparseForm(tensor, SparseStorageKind::bitmask)->bytes);
    const double values = static_cast<double>(pattern.keep) / static_cast<double>(pattern.group) * 32;
    CHECK(static_cast<double>(form->bytes) * 8 == Approx((values + pattern.bits) * static_cast<double>(tensor.size())).epsilon(0.03));
    const Restored back = restored(tensor, *form);
    CHECK(back.bytes == form->bytes);
    REQUIRE(back.tensor.shape() == tensor.shape());
    CHECK(std::ranges::equal(back.tensor.data<float>(), tensor.data<float>()));
}

TEST_CASE("what does not repeat one value, or has another type, keeps its form") {
    CHECK_FALSE(sparseForm(test::randomTensor({64, 64}, 1), SparseStorageKind::automatic));
    CHECK_FALSE(sparseForm(sparseTensor({64, 64}, 0.02), SparseStorageKind::automatic));
    CHECK_FALSE(sparseForm(sparseTensor({64, 64}, 0.5), SparseStorageKind::grouped));
    CHECK_FALSE(sparseForm(Tensor(DType::int64, {64, 64}), SparseStorageKind::automatic));
}

TEST_CASE("half floats and 8-bit codes are stored so too, codes around any zero point") {
    const Tensor source = sparseTensor({48, 40}, 0.6);
    Tensor codes(DType::uint8, {48, 40});
    for (std::size_t i = 0; i < 48 * 40; ++i)
        codes.mutableData<std::uint8_t>()[i] = static_cast<std::uint8_t>(128 + std::lround(source.data<float>()[i] * 300));
    for (const Tensor& tensor : {convert(source, DType::float16), convert(source, DType::bfloat16), convert(codes, DType::int8), codes}) {
        const auto form = sparseForm(tensor, SparseStorageKind::automatic);
        REQUIRE(form);
        const Restored back = restored(tensor, *form);
        CHECK(back.bytes == form->bytes);
        CHECK(toFloat32(back.tensor) == toFloat32(tensor));
    }
}

TEST_CASE("a pruned model is smaller by what the report says, and computes the same here and in ONNX Runtime") {
    const bool grouped = GENERATE(false, true);
    const ir::Model model = pruned(grouped ? groupedTensor(96, 128, 0, 2, 4) : sparseTensor({96, 128}, 0.7),
                                   grouped ? groupedTensor(64, 128, 1, 2, 4) : sparseTensor({64, 128}, 0.5));
    const auto [stored, report] = runPass(model, "store-sparse", "", "{}");
    ir::validateStructure(stored);
    REQUIRE(report.changed.size() == 2);
    CHECK(report.changed[0].change.find(grouped ? "2:4" : "a bitmask") != std::string::npos);
    REQUIRE(report.notes.size() == 1);

    const test::ScratchFolder folder;
    ir::save(stored, folder.path() / "stored.onnx");
    const std::uint64_t size = std::filesystem::file_size(folder.path() / "stored.onnx");
    CHECK(size == pipeline::predictedFileBytes(stored));
    const std::uint64_t saved = pipeline::predictedFileBytes(model) - size;
    CHECK(report.notes[0].find(fmt::format("are worth {} bytes", saved)) != std::string::npos);
    // Half of the values, or more, of 80 KiB, less the places, the tables of patterns and the nodes.
    CHECK(saved > 32'000);

    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(model, feeds);
    CHECK(test::largestDifference(test::outputsOf(stored, feeds), outputs) == 0);
    if (test::haveJudge()) CHECK(test::largestDifference(test::runtimeOutputsOf(stored, feeds), outputs) < 1e-6);
}

TEST_CASE("the analysis knows stored weights: what they cost, and why other passes leave them alone") {
    const ir::Model model = pruned(sparseTensor({96, 128}, 0.7), sparseTensor({64, 128}, 0.5));
    const auto stored = runPass(model, "store-sparse", "", "{}").model;
    pipeline::ViewCache views;
    const analysis::ModelCost before = analysis::cost(model, views.view(model));
    const analysis::ModelCost after = analysis::cost(stored, views.view(stored));
    CHECK(after.parameters == before.parameters);
    CHECK(after.nonZero == before.nonZero);
    CHECK(after.macs == before.macs);
    CHECK(after.bytes < before.bytes);
    for (const auto& [type, options] : {std::pair{"prune", R"({"sparsity": 0.8})"}, std::pair{"low-rank", R"({"rank_ratio": 0.1})"}}) {
        const auto again = runPass(stored, type, type == std::string("prune") ? "magnitude" : "svd", options);
        CHECK(again.report.changed.empty());
        REQUIRE(skippedSite(again.report, "first") != nullptr);
        CHECK(skippedSite(again.report, "first")->reason.find("store-sparse") != std::string::npos);
    }
    // A second time there is nothing to store.
    CHECK(runPass(stored, "store-sparse", "", "{}").report.changed.empty());
    // Cleanup folds no constant that makes the file larger.
    CHECK(pipeline::predictedFileBytes(runPass(stored, "cleanup", "", "{}").model) <= pipeline::predictedFileBytes(stored));
}

TEST_CASE("patterns choose which weights are stored without zeros") {
    const ir::Model model = pruned(sparseTensor({96, 128}, 0.7), sparseTensor({64, 128}, 0.5));
    const auto named = runPass(model, "store-sparse", "", R"({"targets": ["second"]})");
    REQUIRE(named.report.changed.size() == 1);
    CHECK(named.report.changed[0].site == "second");
    const auto ignored = runPass(model, "store-sparse", "", R"({"ignore": ["second"]})");
    REQUIRE(ignored.report.changed.size() == 1);
    CHECK(ignored.report.changed[0].site == "first");
}

TEST_CASE("real models run from pruned, quantized and stored weights") {
    const std::string name = GENERATE("bert_tiny", "gpt2_char", "llama_char", "t5_char_decoder", "vit_digits", "bert_tiny_fused");
    const bool quantized = GENERATE(false, true);
    INFO(name << (quantized ? ", int8" : ""));
    ir::Model model = runPass(test::dataModel(name), "prune", "magnitude", R"({"sparsity": 0.75})").model;
    if (quantized) model = runPass(model, "quantize", "dynamic", "{}").model;
    const auto [stored, report] = runPass(model, "store-sparse", "", "{}");
    ir::validateStructure(stored);
    // A kilobyte of int8 is less than the nodes would take.
    if (!quantized || !name.starts_with("bert_tiny")) CHECK_FALSE(report.changed.empty());
    CHECK((report.changed.empty() || pipeline::predictedFileBytes(stored) < pipeline::predictedFileBytes(model)));
    const auto after = analysis::recognise(stored), before = analysis::recognise(model);
    CHECK(after.blocks.size() == before.blocks.size());
    CHECK(after.attention.size() == before.attention.size());
    CHECK(after.feedForward.size() == before.feedForward.size());
    // What would cut such weights refuses, and says why.
    if (!report.changed.empty() && !before.attention.empty()) {
        const auto cut = runPass(stored, "remove-heads", "", R"({"count": 1})");
        CHECK(cut.report.changed.empty());
        CHECK_FALSE(cut.report.skipped.empty());
    }
    const test::Feeds feeds = test::feedsFor(model);
    const auto outputs = test::outputsOf(model, feeds);
    CHECK(test::largestDifference(test::outputsOf(stored, feeds), outputs) < 1e-6);
    if (test::haveJudge()) CHECK(test::largestDifference(test::runtimeOutputsOf(stored, feeds), test::runtimeOutputsOf(model, feeds)) < 1e-6);
}
