// Pruning by outputs on real models: the share, the pattern, and that fitting the rest again is worth it.

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/ir/edit.h"
#include "lib/ir/save.h"
#include "lib/pipeline/records.h"
#include "lib/support/parallel.h"
#include "passes/support/sparse_obs.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

const Tensor& weightOf(const ir::Model& model, const std::string& site) {
    const auto view = analysis::recognise(model);
    const auto found = std::find_if(view.sites.begin(), view.sites.end(), [&](const auto& one) { return one.name == site; });
    INFO("site " << site);
    REQUIRE(found != view.sites.end());
    return *found->weight->constant();
}

double zeroShare(const ir::Model& model, const std::string& site) {
    const auto values = weightOf(model, site).data<float>();
    return static_cast<double>(std::count(values.begin(), values.end(), 0.0f)) / static_cast<double>(values.size());
}

/// Those but the one that tells that zeros take bytes.
std::vector<std::string> notesOf(const pipeline::PassReport& report) {
    std::vector<std::string> notes = report.notes;
    CHECK(std::erase(notes, passes::kZerosTakeBytes) == 1);
    return notes;
}

}  // namespace

TEST_CASE("sparsegpt, and wanda fitted again, lose less than plain wanda") {
    const std::string name = GENERATE("vit_digits", "gpt2_char");
    CAPTURE(name);
    const std::string file = name == "vit_digits" ? "digits_calibration" : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 64), other = samplesOf(file, 64, 96);
    const auto run = [&](const std::string& method, const std::string& more) {
        const auto result = runPass(model, "prune", method, R"({"sparsity": 0.6)" + more + "}", &fit);
        for (const auto& changed : result.report.changed) {
            CHECK(changed.error > 0);
            CHECK(zeroShare(result.model, changed.site) == Approx(0.6).margin(0.02));
        }
        return outputError(model, result.model, other);
    };
    const double sparsegpt = run("sparsegpt", ""), wanda = run("wanda", ""),
                 fitted = run("wanda", R"(, "compensate": true)");
    CHECK(fitted < 0.8 * wanda);
    CHECK(sparsegpt < 0.8 * wanda);
}

TEST_CASE("2:4 and blocks hold in the written weights, in ONNX Runtime too") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    for (const std::string method : {"sparsegpt", "wanda"})
        for (const std::string structure : {"2:4", "block4x1"}) {
            CAPTURE(method, structure);
            const auto result = runPass(model, "prune", method, R"({"structure": ")" + structure + R"("})", &samples);
            REQUIRE_FALSE(result.report.changed.empty());
            for (const auto& site : analysis::recognise(result.model).sites) {
                if (std::none_of(result.report.changed.begin(), result.report.changed.end(),
                                 [&](const auto& changed) { return changed.site == site.name; }))
                    continue;
                const Tensor& weight = *site.weight->constant();
                const auto values = weight.data<float>();
                const std::int64_t columns = weight.shape()[1];
                const std::int64_t stride = site.inAxis == 0 ? columns : 1, other = site.inAxis == 0 ? 1 : columns;
                for (std::int64_t o = 0; o < weight.shape()[site.outAxis]; ++o)
                    for (std::int64_t i = 0; i < weight.shape()[site.inAxis]; i += 4) {
                        int zeros = 0;
                        for (std::int64_t k = i; k < i + 4; ++k)
                            zeros += values[static_cast<std::size_t>(k * stride + o * other)] == 0 ? 1 : 0;
                        if (structure == "2:4" ? zeros < 2 : zeros != 0 && zeros != 4) FAIL("pattern broken");
                    }
            }
            if (!test::haveJudge()) continue;
            const test::Feeds feeds = test::feedsFor(result.model);
            CHECK(test::largestDifference(test::outputsOf(result.model, feeds),
                                          test::runtimeOutputsOf(result.model, feeds)) < 1e-4);
        }
}

TEST_CASE("alternating directions, and shares by outputs, lose less at the model's outputs") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset fit = samplesOf("digits_calibration", 0, 64), other = samplesOf("digits_calibration", 64, 96);
    const auto error = [&](const std::string& options) {
        return outputError(model, runPass(model, "prune", "sparsegpt", "{" + options + "}", &fit).model, other);
    };
    const double swept = error(R"("sparsity": 0.7)"), directions = error(R"("sparsity": 0.7, "solver": "admm")"),
                 saliency = error(R"("sparsity": 0.7, "solver": "admm", "allocation": "saliency")"),
                 both = error(R"("sparsity": 0.7, "solver": "admm", "allocation": "outputs")");
    CAPTURE(swept, directions, saliency, both);
    CHECK(directions < swept);
    CHECK(both < 0.9 * directions);
    CHECK(both < 0.9 * saliency);
    CHECK(error(R"("structure": "2:4", "solver": "admm")") < error(R"("structure": "2:4")"));
}

TEST_CASE("where errors count by what they do to the model's outputs these lose less") {
    const std::string name = GENERATE("vit_digits", "gpt2_char");
    CAPTURE(name);
    const std::string file = name == "vit_digits" ? "digits_calibration" : "fortunes_char_calibration";
    const ir::Model model = test::dataModel(name);
    const data::Dataset fit = samplesOf(file, 0, 64), other = samplesOf(file, 64, 96);
    const auto error = [&](const std::string& options) {
        const auto result = runPass(model, "prune", "sparsegpt", R"({"sparsity": 0.6, "solver": "admm")" + options + "}", &fit);
        CHECK(notesOf(result.report).empty());
        return outputError(model, result.model, other);
    };
    const double layer = error(""), whole = error(R"(, "loss": "model")");
    CAPTURE(layer, whole);
    CHECK(whole < 0.9 * layer);
    CHECK_THROWS_WITH(test::makePass("prune", "sparsegpt", R"({"loss": "model"})"), Catch::Contains("solver 'admm'"));
}

TEST_CASE("without gradients errors count by layers, and the report says what is in the way") {
    const ir::Model model = test::modelFromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,32] x) => (float[n,32] y) <float[32,32] w, int32 axis = {1}>
        { a = MatMul (x, w) y = CumSum (a, axis) })");
    Tensor x = test::randomTensor({64, 32}, 1, 1.0);
    const data::Dataset samples({{"x", x}}, std::nullopt, "test");
    const auto layer = runPass(model, "prune", "sparsegpt", R"({"solver": "admm"})", &samples);
    const auto whole = runPass(model, "prune", "sparsegpt", R"({"solver": "admm", "loss": "model"})", &samples);
    REQUIRE(notesOf(whole.report).size() == 1);
    CHECK(notesOf(whole.report)[0].find("(CumSum)") != std::string::npos);
    const std::string site = whole.report.changed[0].site;
    CHECK(std::ranges::equal(weightOf(layer.model, site).bytes(), weightOf(whole.model, site).bytes()));
}

TEST_CASE("by outputs a matrix that they hardly need loses most, whatever its own output loses") {
    ir::Model model = test::dataModel("vit_digits");
    const auto view = analysis::recognise(model);
    const analysis::Site& site = view.sites[view.feedForward.back().down.front()];
    Tensor faint = *site.weight->constant();
    for (float& value : faint.mutableData<float>()) value *= 1e-3F;
    ir::Edit edit(model, "test");
    edit.setConstant(site.weight, faint);
    edit.commit();
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    const auto shareBy = [&](const std::string& allocation) {
        const auto options = fmt::format(R"({{"sparsity": 0.5, "allocation": "{}"}})", allocation);
        return zeroShare(runPass(model, "prune", "sparsegpt", options, &samples).model, site.name);
    };
    CHECK(shareBy("outputs") == Approx(0.8).margin(0.01));
    CHECK(shareBy("saliency") < 0.75);
}

TEST_CASE("a matrix that the pattern does not divide is left alone, and data are needed") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 8);
    const auto result = runPass(model, "prune", "sparsegpt", R"({"structure": "3:7"})", &samples);
    CHECK(result.report.changed.empty());
    CHECK_FALSE(result.report.skipped.empty());
    CHECK_THROWS_WITH(runPass(model, "prune", "sparsegpt", "{}"), Catch::Contains("--calibration"));
    CHECK_THROWS_WITH(test::makePass("prune", "wanda", R"({"structure": "4:2"})"), Catch::Contains("2:4"));
}

TEST_CASE("matrices without elements are left alone, whatever spreads the share over the others") {
    const ir::Model model = test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (float[n,4] x) => (float[n,4] y)
<float[4,0] none, float[0,4] nothing, float[4,8] up, float[8,4] down>
{
  e = MatMul(x, none)
  z = MatMul(e, nothing)
  r = Add(x, z)
  u = MatMul(r, up)
  h = Relu(u)
  y = MatMul(h, down)
}
)");
    const data::Dataset samples = data::syntheticDataset(model, 32, /*seed=*/1);
    for (const char* allocation : {"uniform", "saliency", "outputs", "owl", "er"}) {
        CAPTURE(allocation);
        const auto [pruned, report] =
            runPass(model, "prune", "sparsegpt", fmt::format(R"({{"sparsity": 0.5, "allocation": "{}"}})", allocation), &samples);
        CHECK(report.changed.size() == 2);
        REQUIRE(report.skipped.size() == 2);
        for (const auto& skipped : report.skipped) CHECK_THAT(skipped.reason, Catch::Contains("no elements"));
    }
}

TEST_CASE("as many ridges as there are threads are tried at once, and every number of threads gives the same bytes") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 32);
    const std::string more = GENERATE("", R"(, "solver": "admm", "loss": "model", "allocation": "outputs")");
    const auto pruned = [&](int threads) {
        setThreadCount(threads);
        const auto result = runPass(model, "prune", "sparsegpt", R"({"sparsity": 0.6)" + more + "}", &samples);
        setThreadCount(0);
        return ir::modelToProto(result.model, ir::WeightData::embed).SerializeAsString();
    };
    const std::string alone = pruned(1);
    CHECK((pruned(2) == alone));
    CHECK((pruned(4) == alone));
}

TEST_CASE("zeros by allocation and in rounds are as many as were asked for, and lie elsewhere") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48), other = samplesOf("digits_calibration", 64, 96);
    const auto prune = [&](const char* method, const std::string& more) {
        return runPass(model, "prune", method, R"({"sparsity": 0.6)" + more + "}", &samples);
    };
    const double plain = outputError(model, prune("magnitude", "").model, other);
    const auto even = prune("sparsegpt", "");
    for (const char* more : {R"(, "allocation": "saliency")", R"(, "allocation": "outputs")", R"(, "allocation": "owl")", R"(, "allocation": "er")", R"(, "steps": 3)"}) {
        CAPTURE(more);
        const auto result = prune("sparsegpt", more);
        REQUIRE(result.report.changed.size() == even.report.changed.size());
        double zeros = 0, all = 0, least = 1, most = 0;
        bool same = true;
        for (const auto& changed : result.report.changed) {
            const double share = zeroShare(result.model, changed.site);
            const auto size = static_cast<double>(weightOf(model, changed.site).size());
            zeros += share * size;
            all += size;
            least = std::min(least, share);
            most = std::max(most, share);
            same = same && std::ranges::equal(weightOf(result.model, changed.site).bytes(), weightOf(even.model, changed.site).bytes());
        }
        CHECK(zeros / all == Approx(0.6).margin(0.01));
        if (std::string(more).find("steps") == std::string::npos)
            CHECK(most - least > 0.02);
        else
            CHECK(most - least < 0.01);
        CHECK_FALSE(same);
        CHECK(outputError(model, result.model, other) < plain);
    }
    CHECK_THROWS_WITH(test::makePass("prune", "sparsegpt", R"({"structure": "2:4", "steps": 2})"),
                      Catch::Contains("allocation and steps"));
}

TEST_CASE("trials for shares by outputs leave the other weights as the pass will") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    const auto zeros = [&](const char* allocation, bool compensate) {
        const auto result = runPass(model, "prune", "wanda",
                                    fmt::format(R"({{"sparsity": 0.6, "allocation": "{}", "compensate": {}}})", allocation, compensate),
                                    &samples);
        std::vector<double> shares;
        for (const auto& changed : result.report.changed) shares.push_back(zeroShare(result.model, changed.site));
        return shares;
    };
    CHECK(zeros("outputs", true) != zeros("outputs", false));
    // Nothing is tried for these.
    CHECK(zeros("saliency", true) == zeros("saliency", false));
}

TEST_CASE("a limit of the file's size is met by the least sparsity") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    const std::string allocation = GENERATE("uniform", "saliency");
    const auto limit = static_cast<std::int64_t>(0.5 * static_cast<double>(pipeline::predictedFileBytes(model)));
    const auto result = runPass(model, "prune", "wanda",
                                fmt::format(R"({{"max_size_bytes": {}, "allocation": "{}"}})", limit, allocation), &samples);
    const auto stored = runPass(result.model, "store-sparse", "", "{}");
    const auto bytes = static_cast<std::int64_t>(pipeline::predictedFileBytes(stored.model));
    CHECK(bytes <= limit);
    CHECK(bytes > limit - 4096);
    REQUIRE(notesOf(result.report).size() == 1);
    CHECK(notesOf(result.report)[0].find(fmt::format("is {}", bytes)) != std::string::npos);
    CHECK_THROWS_WITH(runPass(model, "prune", "wanda", R"({"max_size_bytes": 1000})", &samples),
                      Catch::Contains("1000 bytes are too few"));
}

TEST_CASE("a limit of the accuracy's drop is met by the most sparsity") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples =
        data::readDataset(std::filesystem::path(TCOMPRESS_TEST_DATA) / "zoo/digits_validation.npz").head(80);
    const auto zeros = [&](const std::string& drop) {
        const auto result = runPass(model, "prune", "wanda", R"({"max_accuracy_drop": )" + drop + "}", &samples);
        REQUIRE(notesOf(result.report).size() == 1);
        return zeroShare(result.model, result.report.changed.front().site);
    };
    const double strict = zeros("0.0"), loose = zeros("0.3");
    CHECK(strict > 0.1);
    CHECK(loose > strict);
    const data::Dataset unlabelled = samplesOf("digits_validation", 0, 8);
    CHECK_THROWS_WITH(runPass(model, "prune", "wanda", R"({"max_accuracy_drop": 0.1})", &unlabelled), Catch::Contains("labels"));
}

TEST_CASE("a sparsity beside a limit is refused") {
    CHECK_THROWS(test::makePass("prune", "sparsegpt", R"({"sparsity": 0.5, "max_size_bytes": 100})"));
    CHECK_THROWS(test::makePass("prune", "sparsegpt", R"({"structure": "2:4", "max_accuracy_drop": 0.1})"));
}
