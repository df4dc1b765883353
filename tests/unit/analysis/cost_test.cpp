#include "lib/analysis/cost.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "lib/ir/load.h"
#include "tests/unit/analysis/tiny_transformer.h"

namespace tcompress::analysis {
namespace {

TEST_CASE("parameters and MACs of a tiny Transformer by hand") {
    const ir::Model model = preNorm(plainAttention);
    const TransformerView view = recognise(model);
    const ModelCost c = cost(model, view, 32);
    CHECK(c.sequenceLength == 32);
    CHECK(c.byRole.at("attention").parameters == 2 * 4 * (16 * 16 + 16));
    CHECK(c.byRole.at("other").parameters == 2);  // the attention scales
    CHECK(c.byRole.at("ffn").parameters == 2 * (2 * 16 * 24 + 24 + 16));
    CHECK(c.byRole.at("norm").parameters == 5 * 2 * 16);
    // Projections, scores and contexts.
    CHECK(c.byRole.at("attention").macs == 2 * (4 * 32 * 16 * 16 + 2 * 32 * 32 * 16));
    CHECK(c.byRole.at("ffn").macs == 2 * 2 * 32 * 16 * 24);
    CHECK(c.macsByType.at("float32") == c.macs);
    std::int64_t bytes = 0;
    for (const ir::Value* value : model.graph().values()) {
        if (value->constant() != nullptr) bytes += static_cast<std::int64_t>(value->constant()->sizeBytes());
    }
    CHECK(c.bytes == bytes);
    CHECK(c.nonZero == c.parameters);
}

TEST_CASE("zeros are counted, minus zero too") {
    GraphText g;
    std::string x = g.input("float[b, 4]", "x");
    x = g.node("MatMul(" + x + ", " +
               g.floats("w", {4, 2}, {0.0F, 1.0F, -0.0F, 2.0F, 3.0F, 0.0F, 4.0F, 5.0F}) + ")");
    g.output("float[b, 2]", x);
    ir::Model model = g.model();
    const ModelCost c = cost(model, recognise(model));
    CHECK(c.parameters == 8);
    CHECK(c.nonZero == 5);
    CHECK(c.macs == 8);
    CHECK(c.byRole.at("other").macs == 8);
}

TEST_CASE("a fused attention model costs what the plain one does") {
    const auto load = [](const char* name) {
        return ir::load(std::filesystem::path(TCOMPRESS_TEST_DATA) / "models" / name);
    };
    const ir::Model plain = load("bert_tiny.onnx"), fused = load("bert_tiny_fused.onnx");
    const ModelCost a = cost(plain, recognise(plain), 16), b = cost(fused, recognise(fused), 16);
    CHECK(a.macs == b.macs);
    CHECK(a.byRole.at("attention").macs == b.byRole.at("attention").macs);
    CHECK(a.byRole.at("embedding").parameters == b.byRole.at("embedding").parameters);
    CHECK(a.byRole.at("ffn").parameters == b.byRole.at("ffn").parameters);
    CHECK(a.byRole.at("norm").parameters == b.byRole.at("norm").parameters);
    // Its position table ends at 64.
    CHECK(cost(plain, recognise(plain)).sequenceLength == 64);
    CHECK(cost(fused, recognise(fused)).sequenceLength == 64);
}

}  // namespace
}  // namespace tcompress::analysis
