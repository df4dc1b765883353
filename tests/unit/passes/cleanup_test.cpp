// Cleanup of models as passes leave them: what it decides by the bytes of nodes holds for the file that is written, too.

#include <catch2/catch.hpp>

#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::runPass;

TEST_CASE("cleanup behind quantization leaves nothing to another cleanup of the written file") {
    const ir::Model quantized = runPass(test::dataModel("bert_tiny"), "quantize", "dynamic", "{}").model;
    const test::ScratchFolder folder;
    const auto written = [&](const ir::Model& model, const char* name) {
        return ir::save(model, folder.path() / name).fileBytes;
    };
    const ir::Model tidied = runPass(quantized, "cleanup", "", "{}").model;
    CHECK(written(tidied, "tidied.onnx") < written(quantized, "quantized.onnx"));
    CHECK(runPass(ir::load(folder.path() / "tidied.onnx"), "cleanup", "", "{}").report.changed.empty());
}
