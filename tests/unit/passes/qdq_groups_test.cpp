// What ONNX Runtime fuses between DequantizeLinear and QuantizeLinear: our table against the graphs that it makes.

#include "passes/quantize/int8/qdq_groups.h"

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "lib/data/dataset.h"
#include "lib/ir/save.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;

namespace {

/// Codes of x and k (two computed inputs), and weights.
std::string groupModel(const std::string& body) {
    return fmt::format(
        R"(<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,4] x, float[2,4] k) => (float y)
        <float s = {{0.02}}, uint8 z = {{128}}, float t = {{0.05}}, uint8 u = {{100}},
         int8[4,4] w = {{1,-2,3,-4,5,6,-7,8,9,1,-2,3,4,5,-6,7}}, float[4] ws = {{0.1,0.2,0.1,0.3}}, int8[4] wz = {{0,0,0,0}},
         int32[4] b = {{10,20,30,40}}, float[4] bs = {{0.002,0.004,0.002,0.006}}, int32[4] bz = {{0,0,0,0}}, float[4] f = {{1,2,3,4}},
         int64[1] one = {{-1}}, float[4] g = {{1,1,2,1}}>
        {{
            xq = QuantizeLinear(x, s, z)
            xd = DequantizeLinear(xq, s, z)
            kq = QuantizeLinear(k, t, u)
            kd = DequantizeLinear(kq, t, u)
            wd = DequantizeLinear<axis = 1>(w, ws, wz)
            bd = DequantizeLinear<axis = 0>(b, bs, bz)
            {}
        }})",
        body);
}

const std::string kQuantized = " yq = QuantizeLinear(r, t, u) y = DequantizeLinear(yq, t, u)";
const std::string kSameCode = " yq = QuantizeLinear(r, s, z) y = DequantizeLinear(yq, s, z)";

}  // namespace

TEST_CASE("The table of fused groups is that of ONNX Runtime") {
    const auto [body, refusal] = GENERATE(table<std::string, std::string>({
        {"y = MatMul(xd, wd)", ""},
        {"r = MatMul(xd, wd)" + kQuantized, ""},
        {"y = Gemm(xd, wd)", ""},
        {"y = Gemm(xd, wd, bd)", ""},
        {"wn = DequantizeLinear<axis = 1>(w, ws) y = Gemm(xd, wn, bd)", "its weight has no zero point"},
        {"wn = DequantizeLinear<axis = 1>(w, ws) y = MatMul(xd, wn)", ""},
        {"y = Gemm(xd, wd, f)", "its bias is float32, not dequantized from int32"},
        {"r = Gemm(xd, wd, bd)" + kQuantized, ""},
        {"r = Add(xd, kd)" + kQuantized, ""},
        {"y = Add(xd, kd)", "its output is not quantized"},
        {"r = Add(xd, k)" + kQuantized, "its input 1 is not dequantized"},
        {"r = Mul(xd, kd)" + kQuantized, ""},
        {"r = Softmax(xd)" + kQuantized, ""},
        {"y = Softmax(xd)", "its output is not quantized"},
        {"r = Sigmoid(xd)" + kQuantized, ""},
        {"r = Concat<axis = 0>(xd, kd)" + kQuantized, ""},
        {"r = Transpose(xd)" + kSameCode, ""},
        {"r = Transpose(xd)" + kQuantized, "its output has another scale or zero point than its input"},
        {"r = Reshape(xd, one)" + kSameCode, ""},
        {"r = LayerNormalization(xd, g)" + kQuantized, "there is no kernel for its codes"},
        {"r = Tanh(xd)" + kQuantized, "there is no kernel for its codes"},
    }));
    INFO(body);
    const ir::Model model = test::modelFromText(groupModel(body));
    const auto groups = passes::qdqGroups(model);
    REQUIRE(groups.size() == 1);
    CHECK(groups.front().refusal == refusal);
    if (!test::haveJudge()) return;
    const test::ScratchFolder scratch;
    ir::save(model, scratch.path() / "model.onnx");
    const auto judged = test::askJudge({"unfused", (scratch.path() / "model.onnx").string()});
    INFO(judged.output);
    REQUIRE(judged.exitCode != 2);
    CHECK((judged.exitCode == 0) == refusal.empty());
}

TEST_CASE("All that quantize/static writes is fused, and its report says so") {
    // vit_digits: MatMul and Add, and one Gemm; gpt2_char: Gemm.
    const auto [name, dataName, count, kernel] = GENERATE(table<std::string, std::string, int, std::string>(
        {{"vit_digits", "digits", 25, "MatMulIntegerToFloat"}, {"gpt2_char", "fortunes_char", 17, "QGemm"}}));
    const ir::Model model = test::dataModel(name);
    const auto folder = std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo";
    const data::Dataset calibration = data::readDataset(folder / (dataName + "_calibration.npz")).head(20);
    const auto [quantized, report] = test::runPass(model, "quantize", "static", "{}", &calibration);
    const std::string line =
        fmt::format("ONNX Runtime fuses {} of {} operators that read codes", count, count);
    CHECK(std::count(report.notes.begin(), report.notes.end(), line) == 1);
    if (!test::haveJudge()) return;
    const test::ScratchFolder scratch;
    ir::save(quantized, scratch.path() / "model.onnx");
    const auto judged = test::askJudge({"unfused", (scratch.path() / "model.onnx").string()});
    INFO(judged.output);
    CHECK(judged.exitCode == 0);
    CHECK(judged.output.find(kernel) != std::string::npos);
    const data::Dataset fitted = data::fitToModel(calibration, model);
    const test::Feeds feeds = fitted.rows(0, 8);
    CHECK(test::largestDifference(test::outputsOf(quantized, feeds), test::runtimeOutputsOf(quantized, feeds)) < 0.02);
}
