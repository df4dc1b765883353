// rotate: the matrices are what they say, outputs stay the same here and in ONNX Runtime, and what cannot be turned
// is left alone with its reason.

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/data/calibration_data.h"
#include "lib/ir/validate.h"
#include "lib/pipeline/pass_runner.h"
#include "passes/registry.h"
#include "passes/rotate/orthogonal.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using namespace tcompress::passes;

TEST_CASE("Rotations are orthogonal, keep means and spread what is in one channel") {
    const std::int64_t n = GENERATE(2, 7, 96, 128);
    const std::vector<double> q = randomRotation(n, Random(3, "rotation"));
    const auto at = [&](std::int64_t i, std::int64_t j) { return q[static_cast<std::size_t>(i * n + j)]; };
    for (std::int64_t i = 0; i < n; ++i) {
        double rowSum = 0, largest = 0;
        for (std::int64_t j = 0; j < n; ++j) {
            double product = 0;
            for (std::int64_t k = 0; k < n; ++k) product += at(i, k) * at(j, k);
            CHECK(product == Approx(i == j ? 1 : 0).margin(1e-12));
            CHECK(at(i, j) == Approx(at(j, i)).margin(1e-12));
            rowSum += at(i, j);
            largest = std::max(largest, std::fabs(at(i, j)));
        }
        CHECK(rowSum == Approx(1));
        if (n >= 96) CHECK(largest < 0.5);
    }
}

TEST_CASE("A tensor is turned along the axis that is asked for") {
    const Tensor tensor = test::randomTensor({3, 5, 4}, 1, 1);
    const std::vector<double> q = randomRotation(5, Random(4, "rotation"));
    const std::vector<float> factors{1, 2, 3, 4, 5};
    const Tensor turned = rotated(tensor, 1, q, factors);
    const auto before = tensor.data<float>(), after = turned.data<float>();
    for (std::size_t a = 0; a < 3; ++a)
        for (std::size_t i = 0; i < 5; ++i)
            for (std::size_t b = 0; b < 4; ++b) {
                double expected = 0;
                for (std::size_t k = 0; k < 5; ++k)
                    expected += q[i * 5 + k] * factors[k] * before[(a * 5 + k) * 4 + b];
                CHECK(after[(a * 5 + i) * 4 + b] == Approx(expected).margin(1e-6));
            }
    const Tensor rows = test::randomTensor({6, 5}, 2, 1);
    const Tensor back = rotated(rotated(rows, 1, q), 1, q);
    for (std::size_t i = 0; i < 30; ++i)
        CHECK(back.data<float>()[i] == Approx(rows.data<float>()[i]).margin(1e-6));
}

namespace {

struct Turned {
    const char* model;
    bool stream, values;
};

bool changed(const pipeline::PassReport& report, const std::string& what) {
    for (const auto& site : report.changed)
        if (site.change.find(what) != std::string::npos) return true;
    return false;
}

}  // namespace

TEST_CASE("A rotated model computes what it did") {
    const Turned expected = GENERATE(values<Turned>({{"gpt2_char", true, false},
                                                     {"llama_char", true, true},
                                                     {"t5_char_decoder", true, true},
                                                     {"t5_char_encoder", false, true},
                                                     {"bert_tiny", false, true}}));
    INFO(expected.model);
    const ir::Model model = test::dataModel(expected.model);
    const auto [turned, report] = test::runPass(model, "rotate", "", "{}");
    for (const auto& site : report.skipped) INFO(site.site << ": " << site.reason);
    ir::validateStructure(turned);
    CHECK(changed(report, "residual stream") == expected.stream);
    CHECK(changed(report, "by heads") == expected.values);
    CHECK((test::skippedSite(report, "residual stream") != nullptr) != expected.stream);
    CHECK(turned.graph().nodes().size() == model.graph().nodes().size());
    const test::Feeds feeds = test::feedsFor(model);
    const auto before = test::outputsOf(model, feeds);
    CHECK(test::largestDifference(test::outputsOf(turned, feeds), before) < 2e-5);
    if (test::haveJudge()) CHECK(test::largestDifference(test::runtimeOutputsOf(turned, feeds), before) < 2e-5);
}

TEST_CASE("A stream that is read by something else stays") {
    // The same model; once a Relu reads the stream, which no rotation passes through, once a norm's bias is computed.
    const std::string reader = GENERATE("", "Relu", "bias");
    const std::string text = std::string(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[N, T] ids) => (float[N, T, 10] y)
        <float table = {0}, float gamma = {0}, float beta = {0}, float up = {0}, float down = {0}, float head = {0},
         float wq = {0}, float wk = {0}, float wv = {0}, float wo = {0}, float scale = {0.25}, float gamma2 = {0},
         float beta2 = {0}, float gamma3 = {0}, float beta3 = {0}>
        {
            x = Gather(table, ids)
            n = LayerNormalization(x, gamma, beta)
            q = MatMul(n, wq)
            k = MatMul(n, wk)
            v = MatMul(n, wv)
            kt = Transpose<perm = [0, 2, 1]>(k)
            s = MatMul(q, kt)
            scaled = Mul(s, scale)
            p = Softmax(scaled)
            c = MatMul(p, v)
            o = MatMul(c, wo)
            x2 = Add(x, o)
            )") + (reader == "bias" ? "given = Add(beta2, beta2)\n n2 = LayerNormalization(x2, gamma2, given)"
                                  : "n2 = LayerNormalization(x2, gamma2, beta2)") + R"(
            h = MatMul(n2, up)
            a = Relu(h)
            d = MatMul(a, down)
            x3 = Add(x2, d))" + (reader != "Relu" ? "\n x4 = Identity(x3)" : "\n r = Relu(x3)\n x4 = Add(x3, r)") + R"(
            n3 = LayerNormalization(x4, gamma3, beta3)
            y = MatMul(n3, head)
        })";
    const ir::Model model = test::modelWithWeights(
        text, {{"table", {20, 16}}, {"gamma", {16}}, {"beta", {16}}, {"up", {16, 32}}, {"down", {32, 16}},
               {"head", {16, 10}}, {"wq", {16, 16}}, {"wk", {16, 16}}, {"wv", {16, 16}}, {"wo", {16, 16}},
               {"gamma2", {16}}, {"beta2", {16}}, {"gamma3", {16}}, {"beta3", {16}}});
    const auto [turned, report] = test::runPass(model, "rotate", "", R"({"values": false})");
    const auto* skipped = test::skippedSite(report, "residual stream");
    if (reader.empty()) {
        CHECK(skipped == nullptr);
        const test::Feeds feeds = test::feedsFor(model);
        CHECK(test::largestDifference(test::outputsOf(turned, feeds), test::outputsOf(model, feeds)) < 1e-4);
    } else {
        REQUIRE(skipped != nullptr);
        CHECK(skipped->reason.find(reader) != std::string::npos);
    }
}

TEST_CASE("GPTQ behind rotate fits to what the rotated model computes") {
    const ir::Model model = test::dataModel("gpt2_char");
    const data::CalibrationData calibration(test::samplesOf("fortunes_char_calibration", 0, 40));
    const data::Dataset unseen = test::samplesOf("fortunes_char_validation", 0, 20);
    const auto errorOf = [&](const std::vector<std::string>& passes) {
        pipeline::ConfigSources sources;
        sources.oneLiners = passes;
        const pipeline::Config config = pipeline::resolveConfig(sources, passes::registry());
        pipeline::PassRunnerOptions options;
        options.original = &model;
        pipeline::PassRunner runner(config, &calibration, options, silentProgress());
        ir::Model result = model.clone();
        for (std::size_t i = 0; i < config.passes.size(); ++i) runner.run(result, i);
        return test::outputError(model, result, unseen);
    };
    const std::string gptq = "quantize/gptq:bits=4,format=packed";
    CHECK(errorOf({"rotate", gptq}) < 2 * errorOf({gptq}));
}
