// Weight-only methods that look at calibration data: closer to the original than rounding to nearest on
// samples they have not seen, the same in ONNX Runtime, and the same bytes for any number of threads.

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>

#include "lib/ir/validate.h"
#include "lib/support/parallel.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::runPass;

namespace {

struct Labelled {
    const char* model;
    const char* data;
};

data::Dataset samples(const std::string& name, const char* part, std::int64_t count) {
    const auto path = std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo" / (name + "_" + part + ".npz");
    return data::readDataset(path).head(count);
}

/// Mean square of what the outputs have moved.
double moved(const ir::Model& model, const ir::Model& original, const data::Dataset& data) {
    const data::Dataset fitted = data::fitToModel(data, original);
    const test::Feeds feeds = fitted.rows(0, fitted.sampleCount());
    const auto before = test::outputsOf(original, feeds), after = test::outputsOf(model, feeds);
    double sum = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
        const auto x = toFloat32(before[i]), y = toFloat32(after[i]);
        for (std::size_t j = 0; j < x.size(); ++j) sum += std::pow(static_cast<double>(x[j]) - y[j], 2);
    }
    return sum;
}

std::vector<std::byte> weightsOf(const ir::Model& model) {
    std::vector<std::byte> bytes;
    for (const ir::Value* value : model.graph().initializers()) {
        const auto own = value->constant()->bytes();
        bytes.insert(bytes.end(), own.begin(), own.end());
    }
    return bytes;
}

}  // namespace

TEST_CASE("Calibrated rounding beats rounding to nearest on samples that were not seen") {
    const auto [name, dataName] = GENERATE(values<Labelled>(
        {{"vit_digits", "digits"}, {"gpt2_char", "fortunes_char"}, {"llama_char", "fortunes_char"}}));
    // AWQ promises the outputs of layers, not of the model, and at 4 bits that makes no difference yet.
    const auto [method, bits] =
        GENERATE(table<std::string, int>({{"gptq", 4}, {"gptq", 3}, {"gptq", 2}, {"awq", 3}, {"awq", 2}}));
    const ir::Model model = test::dataModel(name);
    const data::Dataset calibration = samples(dataName, "calibration", 40);
    const data::Dataset unseen = samples(dataName, "validation", 20);
    const std::string options =
        R"({"format": "packed", "group_size": 32, "bits": )" + std::to_string(bits) + "}";
    const auto calibrated = runPass(model, "quantize", method, options, &calibration);
    ir::validateStructure(calibrated.model);
    const auto nearest = runPass(model, "quantize", "weight-only", options);
    REQUIRE(calibrated.report.changed.size() == nearest.report.changed.size());
    const double before = moved(nearest.model, model, unseen), after = moved(calibrated.model, model, unseen);
    INFO(name << " " << method << " " << bits << " bits: " << before << " to " << after);
    CHECK(after < before);
    if (bits == 3 && test::haveJudge()) {
        const data::Dataset fitted = data::fitToModel(unseen, model);
        const test::Feeds feeds = fitted.rows(0, 2);
        CHECK(test::largestDifference(test::outputsOf(calibrated.model, feeds),
                                      test::runtimeOutputsOf(calibrated.model, feeds)) < 1e-4);
    }
}

TEST_CASE("Calibrated passes write the same bytes for any number of threads") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset calibration = samples("digits", "calibration", 12);
    const std::string method = GENERATE("gptq", "awq");
    const auto run = [&](int threads) {
        setThreadCount(threads);
        auto result = runPass(model, "quantize", method, R"({"bits": 3})", &calibration);
        setThreadCount(0);
        return weightsOf(result.model);
    };
    CHECK(run(1) == run(3));
}

TEST_CASE("GPTQ options: one run on the original, own outputs, a given damping, constants left alone") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset calibration = samples("digits", "calibration", 20);
    const std::string options =
        GENERATE(R"({"sequential": false})", R"({"target": "own", "damp": 0.05})",
                 R"({"target": "original"})", R"({"act_order": false})", R"({"bias_correction": false})");
    INFO(options);
    const auto [quantized, report] = runPass(model, "quantize", "gptq", options, &calibration);
    CHECK_FALSE(report.changed.empty());
    const auto nearest = runPass(model, "quantize", "weight-only", R"({"bits": 4})");
    const data::Dataset unseen = samples("digits", "validation", 20);
    CHECK(moved(quantized, model, unseen) < moved(nearest.model, model, unseen));
    if (options == R"({"bias_correction": false})") {
        std::size_t same = 0, vectors = 0;
        for (const ir::Value* value : model.graph().initializers()) {
            if (value->constant()->rank() != 1 || value->dtype() != DType::float32) continue;
            ++vectors;
            const ir::Value* after = quantized.graph().find(value->name());
            if (after != nullptr &&
                std::ranges::equal(after->constant()->bytes(), value->constant()->bytes()))
                ++same;
        }
        CHECK(vectors > 0);
        CHECK(same == vectors);
    }
}

TEST_CASE("AWQ: norms and layers before take the factors, a Mul is left for each input that none takes") {
    const auto [name, dataName] =
        GENERATE(values<Labelled>({{"vit_digits", "digits"}, {"llama_char", "fortunes_char"}}));
    const ir::Model model = test::dataModel(name);
    const data::Dataset calibration = samples(dataName, "calibration", 20);
    // Tables have factors of their own; pictures have none.
    const std::string linears = name == std::string("llama_char") ? R"(, "ignore": ["role:embedding"]})" : "}";
    const auto [quantized, report] = runPass(
        model, "quantize", "awq", R"({"bits": 4, "format": "qdq", "scale_type": "float32")" + linears, &calibration);
    ir::validateStructure(quantized);
    int scaled = 0, inputs = 0, folded = 0;
    for (const std::string& note : report.notes)
        if (std::sscanf(note.c_str(), "%d of %d inputs of linear layers are scaled, %d of them", &scaled, &inputs,
                        &folded) == 3)
            break;
    INFO(name << ": " << scaled << " of " << inputs << ", " << folded);
    CHECK(folded > inputs / 3);
    CHECK(test::countOf(quantized, "Mul") ==
          test::countOf(model, "Mul") + static_cast<std::size_t>(scaled - folded));
    const data::Dataset unseen = samples(dataName, "validation", 60);
    const auto nearest = runPass(model, "quantize", "weight-only",
                                 R"({"bits": 4, "format": "qdq", "observer": "minmax")" + linears);
    CHECK(moved(quantized, model, unseen) < moved(nearest.model, model, unseen));
}

TEST_CASE("GPTQ goes on behind low-rank, whose first factors do not write to the stream") {
    const ir::Model model = runPass(test::dataModel("vit_digits"), "low-rank", "svd", R"({"rank_ratio": 0.5})").model;
    const data::Dataset samples = test::samplesOf("digits_calibration", 0, 16);
    const auto [quantized, report] = runPass(model, "quantize", "gptq", R"({"bits": 4})", &samples);
    CHECK(report.changed.size() > 30);
    CHECK(test::outputError(model, quantized, samples) < 0.05);
}

TEST_CASE("Calibrated methods ask for calibration data") {
    const std::string method = GENERATE("gptq", "awq");
    CHECK_THROWS_WITH(runPass(test::dataModel("vit_digits"), "quantize", method, "{}"),
                      Catch::Contains("--calibration"));
}
