// Ranges of what is rounded, and static quantization as a whole.

#include "passes/quantize/int8/activation_range.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/ir/validate.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::countOf;
using test::runPass;

namespace {

double squaredError(const std::vector<float>& x, kernels::UInt8Parameters parameters) {
    double sum = 0;
    for (const float value : x) {
        const float code =
            std::clamp(std::nearbyint(value / parameters.scale) + parameters.zeroPoint, 0.0F, 255.0F);
        sum += std::pow((code - parameters.zeroPoint) * parameters.scale - value, 2);
    }
    return sum;
}

}  // namespace

TEST_CASE("The histogram is that of shifted and scaled channels") {
    const std::vector<float> x{1, 10, 2, 30, 3, 20};  // 3 rows of 2 channels
    SmoothedHistogram sums(calibration::Source(nullptr), {1, 10}, {1, 0.1F});
    const calibration::Rows rows{3, 2, x};
    sums.add(std::span(&rows, 1));
    CHECK(sums.result().total() == 6);
    CHECK(sums.result().minimum() == 0.0F);
    CHECK(sums.result().maximum() == 2.0F);
}

TEST_CASE("Observers: the whole range holds all, the mse cut has the smallest error, zero is exact") {
    Random random(4, "activations");
    std::vector<float> x;
    for (int i = 0; i < 50000; ++i)
        x.push_back(static_cast<float>(random.normal() * (i % 5000 == 17 ? 30.0 : 1.0)));
    SmoothedHistogram sums(calibration::Source(nullptr), {}, {});
    const calibration::Rows rows{static_cast<std::int64_t>(x.size()), 1, x};
    sums.add(std::span(&rows, 1));
    const auto parametersOf = [&](ActivationObserver observer) {
        return chooseParameters(sums.result(), {observer, 99.9});
    };
    const auto whole = parametersOf(ActivationObserver::minmax);
    CHECK(whole.scale * 255 >= (sums.result().maximum() - sums.result().minimum()) * 0.999F);
    const double best = squaredError(x, parametersOf(ActivationObserver::mse));
    for (const auto observer :
         {ActivationObserver::minmax, ActivationObserver::percentile, ActivationObserver::entropy})
        CHECK(best <= 1.05 * squaredError(x, parametersOf(observer)));
    CHECK(parametersOf(ActivationObserver::percentile).scale < whole.scale);
    CHECK(parametersOf(ActivationObserver::entropy).scale < whole.scale);
}

TEST_CASE("Static models compute here and in ONNX Runtime what is close to the original") {
    const std::string observer = GENERATE("minmax", "percentile", "entropy", "mse");
    const auto folder = std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo";
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset calibration = data::readDataset(folder / "digits_calibration.npz").head(40);
    const auto [quantized, report] =
        runPass(model, "quantize", "static", R"({"observer": ")" + observer + "\"}", &calibration);
    ir::validateStructure(quantized);
    CHECK(countOf(quantized, "DynamicQuantizeLinear") == 0);
    CHECK(countOf(quantized, "QuantizeLinear") > 0);
    CHECK(countOf(quantized, "DequantizeLinear") > 2 * 10);
    CHECK(countOf(quantized, "MatMulInteger") == 0);
    const test::Feeds feeds =
        data::fitToModel(data::readDataset(folder / "digits_validation.npz"), model).rows(0, 40);
    const auto original = test::outputsOf(model, feeds), after = test::outputsOf(quantized, feeds);
    INFO(observer);
    CHECK(test::largestDifference(after, original) < 0.1);
    if (test::haveJudge())
        CHECK(test::largestDifference(after, test::runtimeOutputsOf(quantized, feeds)) < 0.02);
}

TEST_CASE("Static quantization: the same bytes for any number of threads; no data is refused") {
    const auto folder = std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo";
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset calibration = data::readDataset(folder / "digits_calibration.npz").head(12);
    const auto run = [&](int threads) {
        setThreadCount(threads);
        auto result = runPass(model, "quantize", "static", "{}", &calibration);
        setThreadCount(0);
        std::vector<std::byte> bytes;
        for (const ir::Value* value : result.model.graph().initializers()) {
            const auto own = value->constant()->bytes();
            bytes.insert(bytes.end(), own.begin(), own.end());
        }
        return bytes;
    };
    CHECK(run(1) == run(3));
    CHECK_THROWS_WITH(runPass(model, "quantize", "static", "{}"), Catch::Contains("--calibration"));
}
