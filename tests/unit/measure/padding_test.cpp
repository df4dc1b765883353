// Padding is cut where outputs do not depend on it, and nowhere else.

#include "lib/measure/padding.h"

#include <catch2/catch.hpp>

#include "lib/ir/load.h"
#include "lib/measure/evaluate.h"

namespace tcompress::measure {
namespace {

/// x [n, t, 3] with its mask as floats [n, t, 1].
ir::Model model(const std::string& body, const std::string& outputs = "float[n, 3] y",
                const std::string& inputs = "float[n, t, 3] x, int64[n, t] attention_mask") {
    return ir::fromText("<ir_version: 10, opset_import: [\"\" : 18]>\nm (" + inputs + ") => (" + outputs +
                        R"() <int64[1] last = {2}, int64[1] tokens = {1}, float[3, 3] w = {1, 2, 3, 0, 1, 0, 2, 0, 1}> {
    m = Cast<to = 1>(attention_mask)
    mask = Unsqueeze(m, last)
)" + body + "}");
}

constexpr const char* kMaskedMean = R"(
    kept = Mul(x, mask)
    sum = ReduceSum<keepdims = 0>(kept, tokens)
    count = ReduceSum<keepdims = 0>(mask, tokens)
    mean = Div(sum, count)
    y = MatMul(mean, w)
)";

exec::Feeds feeds() {
    return {{"x", Tensor::of<float>({2, 4, 3}, {1, 2, 3, 4, 5, 6, 9, 9, 9, 9, 9, 9, 1, 0, 1, 9, 8, 7, 7, 7, 7, 7, 7, 7})},
            {"attention_mask", Tensor::of<std::int64_t>({2, 4}, {1, 1, 0, 0, 1, 0, 0, 0})}};
}

bool isFaithful(const ir::Model& model) {
    const PaddingCut padding(model);
    const auto cut = padding.cut(feeds());
    if (!cut) return false;
    CHECK(cut->at("x").shape() == Shape{2, 2, 3});
    exec::Executor executor(model);
    return padding.isFaithful(feeds(), executor.run(feeds()), executor.run(*cut));
}

TEST_CASE("padding: cut behind the last token of the longest sentence", "[measure]") {
    const auto cut = PaddingCut(model(kMaskedMean)).cut(feeds());
    REQUIRE(cut);
    CHECK(toInt64(cut->at("attention_mask")) == std::vector<std::int64_t>{1, 1, 1, 0});
    const auto x = cut->at("x").data<float>();
    CHECK(std::vector<float>(x.begin(), x.end()) == std::vector<float>{1, 2, 3, 4, 5, 6, 1, 0, 1, 9, 8, 7});
    // Nothing but padding in front, or no padding: nothing to cut.
    exec::Feeds left = feeds();
    left["attention_mask"] = Tensor::of<std::int64_t>({2, 4}, {0, 0, 1, 1, 0, 0, 0, 1});
    CHECK_FALSE(PaddingCut(model(kMaskedMean)).cut(left));
}

TEST_CASE("padding: only outputs that do not depend on it are faithful", "[measure]") {
    CHECK(isFaithful(model(kMaskedMean)));
    CHECK(isFaithful(model("y = MatMul(x, w)", "float[n, t, 3] y")));
    // The mean over all columns, padding too; a row of all columns; all pairs of columns.
    CHECK_FALSE(isFaithful(model("mean = ReduceMean<keepdims = 0>(x, tokens)\n y = MatMul(mean, w)")));
    CHECK_FALSE(isFaithful(model("y = ReduceSum<keepdims = 0>(x, last)", "float[n, t] y")));
    CHECK_FALSE(isFaithful(model("z = Transpose<perm = [0, 2, 1]>(x)\n y = MatMul(x, z)", "float[n, t, t] y")));
    // Padding becomes infinite, which is counted where it is there.
    CHECK_FALSE(isFaithful(model("y = Div(x, mask)", "float[n, t, 3] y")));
}

TEST_CASE("padding: not where lengths are fixed, tied to others, or ranges are measured on each run", "[measure]") {
    CHECK_FALSE(PaddingCut(model("y = MatMul(x, w)", "float[n, 4, 3] y", "float[n, 4, 3] x, int64[n, 4] attention_mask")).cut(feeds()));
    CHECK_FALSE(PaddingCut(model("y = MatMul(x, w)", "float[n, s, 3] y", "float[n, s, 3] x, int64[n, t] attention_mask")).cut(feeds()));
    CHECK_FALSE(PaddingCut(model("c, s, z = DynamicQuantizeLinear(x)\n y = DequantizeLinear(c, s, z)", "float[n, t, 3] y")).cut(feeds()));
}

TEST_CASE("padding: figures stay what they are, whether batches are cut or not", "[measure]") {
    EvaluateOptions options;
    options.latency = false;
    options.energy = EnergyMethod::none;
    options.resamples = 50;
    options.batchSize = 2;
    // A first batch without padding: whether it may be cut is found out later.
    const Tensor x = Tensor::of<float>({4, 3, 3}, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 0, 1, 0, 1, 0, 1, 1, 1,
                                                                    2, 1, 0, 9, 9, 9, 9, 9, 9, 3, 3, 1, 9, 9, 9, 9, 9, 9});
    const Tensor mask = Tensor::of<std::int64_t>({4, 3}, {1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 0, 0});
    const data::Dataset padded({{"x", x}, {"attention_mask", mask}}, std::nullopt, "padded");
    const ir::Model original = model("y = MatMul(x, w)", "float[n, t, 3] y");
    const ir::Model other = model("z = Mul(x, x)\n y = MatMul(z, w)", "float[n, t, 3] y");
    // A fixed length is never cut.
    const auto fixed = [](const char* body) {
        return model(body, "float[n, 3, 3] y", "float[n, 3, 3] x, int64[n, 3] attention_mask");
    };
    const Fidelity cut = evaluate(original, &other, &padded, options).fidelity.at("y");
    const ir::Model fixedOriginal = fixed("y = MatMul(x, w)"), fixedOther = fixed("z = Mul(x, x)\n y = MatMul(z, w)");
    const Fidelity whole = evaluate(fixedOriginal, &fixedOther, &padded, options).fidelity.at("y");
    CHECK(cut.cosine.value == whole.cosine.value);
    CHECK(cut.meanPooledCosine.value == whole.meanPooledCosine.value);
    CHECK(cut.neighbourAgreement.value == whole.neighbourAgreement.value);
    CHECK(cut.sqnrDecibels == whole.sqnrDecibels);
    CHECK(cut.maxAbsoluteError == whole.maxAbsoluteError);
    CHECK(cut.cosine.value < 1);
}

}  // namespace
}  // namespace tcompress::measure
