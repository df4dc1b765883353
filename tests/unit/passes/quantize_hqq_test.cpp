// quantize/hqq on real models: no worse than rounding to nearest in size, closer to the original, and the
// same in ONNX Runtime.

#include <catch2/catch.hpp>

#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;

TEST_CASE("HQQ models compute in ONNX Runtime what they compute here") {
    const std::string name =
        GENERATE("bert_tiny", "gpt2_char", "llama_char", "t5_char_decoder", "vit_digits");
    const ir::Model model = test::dataModel(name);
    const std::string options =
        GENERATE(R"({"bits": 3, "group_size": 32})", R"({"bits": 5, "symmetric": true})");
    INFO(name << " " << options);
    const auto [quantized, report] = test::runPass(model, "quantize", "hqq", options);
    ir::validateStructure(quantized);
    CHECK_FALSE(report.changed.empty());
    const auto nearest = test::runPass(model, "quantize", "weight-only", options);
    REQUIRE(report.changed.size() == nearest.report.changed.size());
    std::size_t sizeHere = 0, sizeThere = 0;
    for (const ir::Value* value : quantized.graph().initializers())
        sizeHere += value->constant()->sizeBytes();
    for (const ir::Value* value : nearest.model.graph().initializers())
        sizeThere += value->constant()->sizeBytes();
    CHECK(sizeHere == sizeThere);
    const test::Feeds feeds = test::feedsFor(model);
    if (test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(quantized, feeds),
                                      test::runtimeOutputsOf(quantized, feeds)) < 1e-4);
}
