// Linear layers that follow each other become one where that is smaller: the same outputs from fewer parameters.

#include <catch2/catch.hpp>

#include "lib/ir/validate.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using test::runPass;

namespace {

ir::Model model(const std::string& constants, const std::string& body, const std::string& output = "float[b,s,8] y") {
    return test::modelFromText("<ir_version: 10, opset_import: [\"\" : 17]>\ng (float[b,s,12] x, int64[b,s] ids) => (" +
                               output + ")\n<" + constants + ">\n{\n" + body + "\n}\n");
}

void checkMerged(const ir::Model& before, std::size_t merges) {
    const auto [after, report] = runPass(before, "low-rank", "merge", "{}");
    ir::validateStructure(after);
    CHECK(report.changed.size() == merges);
    CHECK(report.notes.empty() == (merges > 0));
    CHECK((after.constantBytes() < before.constantBytes()) == (merges > 0));
    const test::Feeds feeds = test::feedsFor(before);
    CHECK(test::largestDifference(test::outputsOf(after, feeds), test::outputsOf(before, feeds)) <
          (merges > 0 ? 1e-5 : 1e-30));
    if (merges > 0 && test::haveJudge())
        CHECK(test::largestDifference(test::outputsOf(before, feeds), test::runtimeOutputsOf(after, feeds)) < 1e-5);
}

}  // namespace

TEST_CASE("consecutive linear layers become one where that is smaller") {
    checkMerged(model("float[12,10] a, float[10,8] b", "h = MatMul(x, a)\n  y = MatMul(h, b)"), 1);
    checkMerged(model("float[12,10] a, float[10] ab, float[10,8] b, float[8] bb",
                      "g = MatMul(x, a)\n  h = Add(ab, g)\n  z = MatMul(h, b)\n  y = Add(z, bb)"),
                1);
    // Chains merge from one end to the other.
    checkMerged(model("float[12,10] a, float[10,11] b, float[11,8] c",
                      "g = MatMul(x, a)\n  h = MatMul(g, b)\n  y = MatMul(h, c)"),
                2);
    // Through what moves rows about, with sizes that are written into a shape, and from rows of a table.
    checkMerged(
        model("float[12,10] a, float[10] ab, float[8,10] b, float[8] bb, int64[2] flat = {-1, 10}, int64[3] full = {2, "
              "-1, 8}",
              "g = MatMul(x, a)\n  h = Add(g, ab)\n  t = Transpose <perm = [1, 0, 2]> (h)\n  f = Reshape(t, flat)\n"
              "  z = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (f, b, bb)\n  y = Reshape(z, full)"),
        1);
    checkMerged(model("float[16,12] table, float[12,8] b", "h = Gather(table, ids)\n  y = MatMul(h, b)"), 1);
}

TEST_CASE("layers that are no smaller as one, or have something between them, stay") {
    checkMerged(model("float[12,4] a, float[4,8] b", "h = MatMul(x, a)\n  y = MatMul(h, b)"), 0);
    checkMerged(model("float[12,10] a, float[10,8] b", "g = MatMul(x, a)\n  h = Relu(g)\n  y = MatMul(h, b)"), 0);
    checkMerged(model("float[12,10] a, float[10,8] b", "h = MatMul(x, a)\n  y = MatMul(h, b)",
                      "float[b,s,8] y, float[b,s,10] h"),
                0);
    checkMerged(model("float[12,10] a, float[10,8] b, float[10,8] c",
                      "h = MatMul(x, a)\n  u = MatMul(h, b)\n  v = MatMul(h, c)\n  y = Mul(u, v)"),
                0);
    // A reshape that mixes the axis between them with another.
    checkMerged(model("float[12,10] a, float[10,8] b, int64[3] mixed = {2, 10, -1}, int64[3] back = {2, -1, 10}",
                      "g = MatMul(x, a)\n  m = Reshape(g, mixed)\n  h = Reshape(m, back)\n  y = MatMul(h, b)"),
                0);
    // Weights that another layer uses too.
    checkMerged(model("float[12,12] a, float[12,8] b",
                      "g = MatMul(x, a)\n  k = Relu(g)\n  h = MatMul(k, a)\n  y = MatMul(h, b)"),
                0);
}

TEST_CASE("factors that are smaller than the matrix stay") {
    const auto factored =
        runPass(test::dataModel("vit_digits"), "low-rank", "svd", R"({"keep": 0.8, "targets": ["role:ffn"]})");
    REQUIRE_FALSE(factored.report.changed.empty());
    CHECK(runPass(factored.model, "low-rank", "merge", "{}").report.changed.empty());
}
