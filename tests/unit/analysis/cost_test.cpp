#include "lib/analysis/cost.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "lib/ir/load.h"
#include "tests/support/make_pass.h"
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
    // Pictures have no length.
    const ir::Model pictures = load("vit_digits.onnx");
    CHECK(cost(pictures, recognise(pictures)).sequenceLength == 0);
    CHECK(cost(pictures, recognise(pictures), 16).macs == cost(pictures, recognise(pictures)).macs);
}

TEST_CASE("scales and zero points count as bytes of what they scale and as parameters of nothing") {
    const ir::Model plain =
        ir::load(std::filesystem::path(TCOMPRESS_TEST_DATA) / "models" / "bert_tiny.onnx");
    const ModelCost before = cost(plain, recognise(plain));
    const auto [method, options] =
        GENERATE(table<const char*, const char*>({{"dynamic", R"({"target_isa": "vnni"})"},
                                                  {"weight-only", "{}"},
                                                  {"weight-only", R"({"bits": 4})"}}));
    CAPTURE(method, options);
    ir::Model quantized = test::runPass(plain, "quantize", method, options).model;
    for (const bool tidied : {false, true}) {
        CAPTURE(tidied);
        if (tidied) quantized = test::runPass(quantized, "cleanup", "", "{}").model;
        const ModelCost after = cost(quantized, recognise(quantized));
        CHECK(after.byRole.at("attention").parameters == before.byRole.at("attention").parameters);
        CHECK(after.byRole.at("ffn").parameters == before.byRole.at("ffn").parameters);
        CHECK(after.byRole.at("norm").parameters == before.byRole.at("norm").parameters);
        CHECK(after.byRole.at("norm").bytes == before.byRole.at("norm").bytes);
        CHECK(after.byRole.at("other").parameters <= before.byRole.at("other").parameters);
        if (std::string(method) == "dynamic")  // whose rows need no constants to be unpacked
            CHECK(after.byRole.at("other").bytes <= before.byRole.at("other").bytes);
        CHECK(after.byRole.at("attention").bytes > after.byRole.at("attention").parameters / 2);
    }
}

}  // namespace
}  // namespace tcompress::analysis
