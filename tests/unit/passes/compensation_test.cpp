// Removal with compensation: what is redundant goes without a trace, and on real models what is lost is less than
// without.

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/data/calibration_data.h"
#include "lib/data/dataset.h"
#include "lib/exec/executor.h"
#include "lib/ir/edit.h"
#include "lib/ir/save.h"
#include "passes/support/compensation.h"
#include "passes/support/structure.h"
#include "passes/support/unit_plan.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using analysis::TransformerView;
using test::outputError;
using test::runPass;
using test::samplesOf;

namespace {

/// Makes unit `copy` of every consumer's producers equal to unit `of`.
ir::Model withTwins(const ir::Model& original, bool heads, std::int64_t of, std::int64_t copy) {
    ir::Model model = original.clone();
    const TransformerView view = analysis::recognise(model);
    ir::Edit edit(model, "test");
    const auto twin = [&](ir::Value* value, analysis::AtomId leaf) {
        if (value == nullptr || value->constant() == nullptr) return;
        Tensor tensor = *value->constant();
        const auto values = tensor.mutableData<float>();
        const auto& axes = view.axes->axes.at(value);
        std::int64_t inner = 1;
        for (std::size_t k = tensor.rank(); k-- > 0; inner *= tensor.shape()[k]) {
            const auto positions = passes::leafPositions(*view.axes->store, axes[k], leaf);
            std::vector<std::int64_t> from, to;
            for (std::size_t i = 0; i < positions.size(); ++i) {
                if (positions[i] == of) from.push_back(static_cast<std::int64_t>(i));
                if (positions[i] == copy) to.push_back(static_cast<std::int64_t>(i));
            }
            for (std::int64_t element = 0; element < tensor.size(); ++element)
                for (std::size_t p = 0; p < to.size(); ++p)
                    if (element / inner % tensor.shape()[k] == to[p])
                        values[static_cast<std::size_t>(element)] =
                            values[static_cast<std::size_t>(element + (from[p] - to[p]) * inner)];
        }
        edit.setConstant(value, tensor);
    };
    if (heads) {
        for (const auto& layer : view.attention)
            for (const auto* sites : {&layer.q, &layer.k, &layer.v})
                for (const std::size_t site : *sites) {
                    twin(view.sites[site].weight, layer.groupLeaf);
                    twin(view.sites[site].bias, layer.groupLeaf);
                }
    } else {
        for (const auto& layer : view.feedForward)
            for (const std::size_t site : layer.up) {
                twin(view.sites[site].weight, layer.widthLeaves.front());
                twin(view.sites[site].bias, layer.widthLeaves.front());
            }
    }
    edit.commit();
    return model;
}

/// The head of each attention layer with the least sum of its channels' mean |x| times the norm of the weights that read them.
std::vector<std::int64_t> leastRead(const ir::Model& model, const data::Dataset& samples) {
    const TransformerView view = analysis::recognise(model);
    std::vector<const ir::Value*> inputs;
    for (const auto& layer : view.attention) inputs.push_back(view.sites[layer.o.front()].input);
    const data::Dataset fitted = data::fitToModel(samples, model);
    const auto made = exec::Executor(model, {.outputs = inputs}).run(fitted.rows(0, fitted.sampleCount()));
    std::vector<std::int64_t> least;
    for (std::size_t i = 0; i < made.size(); ++i) {
        const analysis::Site& site = view.sites[view.attention[i].o.front()];
        const Tensor& weight = *site.weight->constant();
        const std::int64_t channels = weight.shape()[site.inAxis], outputs = weight.shape()[site.outAxis];
        std::vector<double> absolute(static_cast<std::size_t>(channels)), heads(static_cast<std::size_t>(view.attention[i].heads));
        const auto x = made[i].data<float>(), w = weight.data<float>();
        for (std::size_t k = 0; k < x.size(); ++k) absolute[k % absolute.size()] += std::fabs(static_cast<double>(x[k]));
        for (std::int64_t c = 0; c < channels; ++c) {
            double square = 0;
            for (std::int64_t o = 0; o < outputs; ++o)
                square += std::pow(static_cast<double>(w[static_cast<std::size_t>(site.inAxis == 0 ? c * outputs + o : o * channels + c)]), 2);
            heads[static_cast<std::size_t>(c / view.attention[i].valueDim)] += absolute[static_cast<std::size_t>(c)] * std::sqrt(square);
        }
        least.push_back(std::min_element(heads.begin(), heads.end()) - heads.begin());
    }
    return least;
}

struct Case {
    const char* model;
    const char* samples;
};

}  // namespace

TEST_CASE("a unit with a twin goes first, and its twin takes over") {
    const bool heads = GENERATE(true, false);
    CAPTURE(heads);
    const ir::Model model = withTwins(test::dataModel("vit_digits"), heads, 1, 2);
    const data::Dataset samples = samplesOf("digits_calibration", 0, 64);
    const auto remove = [&](const std::string& options) {
        return heads ? runPass(model, "remove-heads", "", R"({"count": 1, )" + options + "}", &samples)
                     : runPass(model, "prune", "neuron", R"({"width": 191, "multiple": 1, )" + options + "}",
                               &samples);
    };
    const auto with = remove(R"("compensate": true)");
    CHECK(with.report.changed.size() == 4);
    for (const auto& changed : with.report.changed) CHECK(changed.error < 0.01);
    CHECK(outputError(model, with.model, samples) <
          0.1 * outputError(model, remove(R"("compensate": false)").model, samples));
}

TEST_CASE("with compensation the outputs stay nearer than without") {
    const Case test = GENERATE(Case{"vit_digits", "digits_calibration"}, Case{"vit_mnist5k", "mnist5k_calibration"},
                               Case{"gpt2_char", "fortunes_char_calibration"},
                               Case{"llama_char", "fortunes_char_calibration"},
                               Case{"t5_char_encoder", "devowel_calibration"});
    CAPTURE(test.model);
    const ir::Model model = test::dataModel(test.model);
    const data::Dataset fit = samplesOf(test.samples, 0, 64), other = samplesOf(test.samples, 64, 96);
    for (const bool heads : {true, false}) {
        CAPTURE(heads);
        const auto remove = [&](const std::string& compensate) {
            const std::string options = R"({"ratio": 0.5, "compensate": )" + compensate + "}";
            return heads ? runPass(model, "remove-heads", "", options, &fit)
                         : runPass(model, "prune", "neuron", options, &fit);
        };
        const auto with = remove("true"), without = remove("false");
        CHECK(with.model.constantBytes() <= without.model.constantBytes() + 16);
        CHECK(outputError(model, with.model, other) < 0.85 * outputError(model, without.model, other));
        for (const auto& changed : with.report.changed)
            CHECK(changed.change.find("with the weights fitted again") != std::string::npos);
    }
}

TEST_CASE("a compensated model runs in ONNX Runtime") {
    if (!test::haveJudge()) return;
    const ir::Model model = test::dataModel("bert_tiny");
    const data::Dataset samples = data::syntheticDataset(model, 16, /*seed=*/3, {{"sequence", 12}});
    const auto heads = runPass(model, "remove-heads", "", R"({"ratio": 0.5})", &samples);
    const auto both = runPass(heads.model, "prune", "neuron", R"({"sparsity": 0.5})", &samples);
    CHECK(both.model.constantBytes() < heads.model.constantBytes());
    const test::Feeds feeds = test::feedsFor(both.model);
    CHECK(test::largestDifference(test::outputsOf(both.model, feeds), test::runtimeOutputsOf(both.model, feeds)) <
          1e-4);
}

TEST_CASE("chosen heads and chosen criteria are compensated too") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 64);
    const auto named = runPass(model, "remove-heads", "", R"({"heads": ["1:2"]})", &samples);
    REQUIRE(named.report.changed.size() == 1);
    CHECK(named.report.changed[0].error > 0);
    const auto scored =
        runPass(model, "prune", "neuron", R"({"sparsity": 0.5, "importance": "magnitude"})", &samples);
    const auto plain = runPass(model, "prune", "neuron",
                               R"({"sparsity": 0.5, "importance": "magnitude", "compensate": false})", &samples);
    CHECK(outputError(model, scored.model, samples) < outputError(model, plain.model, samples));
}

TEST_CASE("global scope gives layers that need more units more of them") {
    const ir::Model model = test::dataModel("vit_mnist5k");
    const data::Dataset samples = samplesOf("mnist5k_calibration", 0, 64);
    const auto global =
        runPass(model, "prune", "neuron", R"({"sparsity": 0.5, "scope": "global", "multiple": 1})", &samples);
    std::int64_t least = 256, most = 0, sum = 0;
    for (const auto& layer : analysis::recognise(global.model).feedForward) {
        least = std::min(least, layer.width);
        most = std::max(most, layer.width);
        sum += layer.width;
    }
    CHECK(least < most);
    CHECK(sum == 6 * 128);
}

TEST_CASE("with automatic scope units go where the outputs miss them least") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset fit = samplesOf("digits_calibration", 0, 64), other = samplesOf("digits_calibration", 64, 96);
    const auto remove = [&](const std::string& scope) {
        return runPass(model, "remove-heads", "", R"({"ratio": 0.5, "scope": ")" + scope + R"("})", &fit);
    };
    const auto even = remove("layer"), chosen = remove("auto");
    std::int64_t left = 0;
    for (const auto& layer : analysis::recognise(chosen.model).attention) left += layer.heads;
    CHECK(left == 8);
    CHECK(outputError(model, chosen.model, other) < 0.5 * outputError(model, even.model, other));
}

TEST_CASE("a share of all that no single layer can give is taken where it costs least") {
    // Two key-value groups a layer: a quarter of them is three of twelve.
    const ir::Model model = test::dataModel("llama_char");
    const data::Dataset samples = samplesOf("fortunes_char_calibration", 0, 4);
    const auto result = runPass(model, "remove-heads", "", R"({"ratio": 0.25, "scope": "auto", "refit": "readers"})", &samples);
    CHECK(result.report.changed.size() == 3);
}

TEST_CASE("layers that read the residual stream make up for what was removed before them") {
    const ir::Model model = test::dataModel("vit_mnist5k");
    const data::Dataset fit = samplesOf("mnist5k_calibration", 0, 96), other = samplesOf("mnist5k_calibration", 96, 192);
    const auto remove = [&](const std::string& refit) {
        return runPass(model, "remove-heads", "", R"({"count": 2, "refit": ")" + refit + R"("})", &fit);
    };
    CHECK(outputError(model, remove("all").model, other) < outputError(model, remove("readers").model, other));
}

TEST_CASE("a layer that loses nothing does not change what is fitted again") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::CalibrationData data(samplesOf("digits_calibration", 0, 32));
    const pipeline::PassContext context(&data, 42, "0", silentProgress());
    const data::Split samples = context.calibrationSplit("test", "it is a test", 0.25);
    const auto bytes = [&](const std::vector<std::int64_t>& keeps) {
        ir::Model edited = model.clone();
        const TransformerView view = analysis::recognise(edited);
        pipeline::PassReport report;
        const auto groups = passes::targetLayers(view, passes::feedForwardUnits(view), {}, {}, report);
        std::vector<passes::UnitTask> tasks;
        for (std::size_t i = 0; i < keeps.size(); ++i)
            if (keeps[i] > 0) tasks.push_back({groups[i], keeps[i], {}, {}});
        passes::removeCompensated(edited, model, view, tasks, {calibration::MomentOrder::first, passes::activationTimesWeight},
                                  samples, context.environment(), report);
        CHECK(std::count(tasks.back().mask.begin(), tasks.back().mask.end(), true) == tasks.back().keep);
        return ir::modelToProto(edited, ir::WeightData::embed).SerializeAsString();
    };
    CHECK(bytes({0, 96, 192}) == bytes({0, 96}));
}

TEST_CASE("heads by the size of their channels and of what reads them") {
    const ir::Model model = test::dataModel("gpt2_char");
    const data::Dataset samples = samplesOf("fortunes_char_calibration", 0, 16);
    const auto removed = [&](const std::string& importance) {
        std::vector<std::string> heads;
        const std::string options = R"({"count": 1, "compensate": false, "importance": ")" + importance + R"("})";
        for (const auto& changed : runPass(model, "remove-heads", "", options, &samples).report.changed) heads.push_back(changed.change);
        return heads;
    };
    const std::vector<std::int64_t> least = leastRead(model, samples);
    const auto found = removed("wanda");
    REQUIRE(found.size() == least.size());
    for (std::size_t i = 0; i < least.size(); ++i) CHECK_THAT(found[i], Catch::Contains(fmt::format("(head {} removed)", least[i])));
    // Other criteria choose others here.
    CHECK(found != removed("magnitude"));
    CHECK(found != removed("output-norm"));
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"count": 1, "importance": "wanda"})"),
                      Catch::Contains("--calibration"));
}

TEST_CASE("neurons and heads that the model's outputs need least go where errors count by these") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset fit = samplesOf("digits_calibration", 0, 64), other = samplesOf("digits_calibration", 64, 96);
    const auto error = [&](const std::string& options) {
        const auto result = runPass(model, "prune", "neuron", R"({"sparsity": 0.5, "scope": "auto")" + options + "}", &fit);
        CHECK(result.report.changed.size() >= 3);
        return outputError(model, result.model, other);
    };
    const double layer = error(""), whole = error(R"(, "loss": "model")");
    CAPTURE(layer, whole);
    CHECK(whole < 0.97 * layer);
    const auto heads = runPass(model, "remove-heads", "", R"({"ratio": 0.25, "loss": "model"})", &fit);
    CHECK(outputError(model, heads.model, other) < 1);
    CHECK_THROWS_WITH(test::makePass("prune", "neuron", R"({"loss": "model", "importance": "activation"})"),
                      Catch::Contains("reconstruction"));
    CHECK_THROWS_WITH(test::makePass("remove-heads", "", R"({"ratio": 0.5, "loss": "model", "compensate": false})"),
                      Catch::Contains("reconstruction"));
    CHECK_THROWS_WITH(runPass(model, "prune", "neuron", R"({"loss": "model"})"), Catch::Contains("--calibration"));
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"ratio": 0.5, "loss": "model"})"), Catch::Contains("--calibration"));
}

TEST_CASE("compensation needs data, and reconstruction compensation") {
    const ir::Model model = test::dataModel("vit_digits");
    CHECK_THROWS_WITH(runPass(model, "remove-heads", "", R"({"ratio": 0.5, "compensate": true})"),
                      Catch::Contains("--calibration"));
    CHECK_THROWS_WITH(runPass(model, "prune", "neuron", R"({"importance": "reconstruction"})"), Catch::Contains("--calibration"));
    CHECK_THROWS_WITH(
        test::makePass("prune", "neuron", R"({"importance": "reconstruction", "compensate": false})"),
        Catch::Contains("fitted again"));
}

TEST_CASE("a width is what each layer keeps, so layers share nothing out") {
    CHECK_THROWS_WITH(test::makePass("prune", "neuron", R"({"width": 64, "scope": "global"})"), Catch::Contains("/scope"));
    CHECK_THROWS_WITH(test::makePass("prune", "neuron", R"({"width": 64, "scope": "auto"})"), Catch::Contains("/scope"));
    CHECK_NOTHROW(test::makePass("prune", "neuron", R"({"width": 64, "scope": "layer"})"));
}

TEST_CASE("a layer that cannot be compensated loses nothing where the outputs decide") {
    const ir::Model plain = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    const TransformerView before = analysis::recognise(plain);
    const std::string down = before.sites[before.feedForward[1].down.front()].name;
    const ir::Model model = runPass(plain, "quantize", "weight-only", R"({"targets": [")" + down + R"("]})").model;
    const auto result = runPass(model, "prune", "neuron", R"({"sparsity": 0.25, "scope": "auto", "refit": "readers"})", &samples);
    const TransformerView view = analysis::recognise(result.model);
    REQUIRE(view.feedForward.size() == 4);
    CHECK(view.feedForward[1].width == before.feedForward[1].width);
    CHECK(view.feedForward[0].width + view.feedForward[2].width + view.feedForward[3].width == 2 * before.feedForward[1].width);
}

TEST_CASE("a decoder is planned by what it says, whether it gives its key-value cache too or not") {
    const data::Dataset samples = samplesOf("fortunes_char_calibration", 0, 12);
    const auto keeps = [&](const std::string& name) {
        const ir::Model model = test::dataModel(name);
        const TransformerView view = analysis::recognise(model);
        pipeline::PassReport report;
        const auto groups = passes::targetLayers(view, passes::attentionUnits(view), {}, {}, report);
        const data::CalibrationData data(samples);
        const pipeline::PassContext context(&data, 42, "0", silentProgress());
        std::vector<std::int64_t> result;
        for (const auto& task : passes::plannedTasks(model, view, groups, {-1, 0.5, passes::Scope::automatic, 1},
                                                     context.calibrationSplit("test", "it is a test", 0.25), context))
            result.push_back(task.keep);
        return result;
    };
    CHECK(keeps("gpt2_char_kv") == keeps("gpt2_char"));
}
