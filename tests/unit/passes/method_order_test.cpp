// What the weight-only methods promise on every model of the zoo: the outputs of linear layers miss less than with
// round-to-nearest, on samples that nothing was fitted to. Round-to-nearest is what the field calls so: groups from
// their smallest to their largest weight. HQQ with data is also compared with the ranges of least squared error.

#include <catch2/catch.hpp>
#include <cmath>
#include <functional>

#include "lib/calibration/channel_statistics.h"
#include "passes/quantize/solver/output_error.h"
#include "passes/quantize/solver/awq_solver.h"
#include "passes/quantize/solver/code_descent.h"
#include "passes/quantize/solver/hqq_solver.h"
#include "passes/quantize/solver/layer_evidence.h"
#include "tests/support/judge.h"
#include "tests/unit/passes/gptq_of_moment.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

constexpr std::int64_t kGroup = 32;
constexpr std::int64_t kAwqSteps = 8;

/// Linear layers that read the same value, and what is known of it.
struct Stage {
    std::vector<AwqLayer> layers;
    calibration::Moments fit, unseen;
    std::vector<double> meanAbsolute;
    std::vector<float> importance;
};

std::vector<Stage> stagesOfModel(const ir::Model& model, const data::Dataset& fit, const data::Dataset& unseen) {
    const analysis::TransformerView view = analysis::recognise(model);
    pipeline::PassReport unused;
    WeightQuery query;
    query.fewestValues = kFewestValuesToStoreNarrower;
    const std::vector<TargetWeight> weights = targetWeights(view, query, unused);
    std::vector<const TargetWeight*> linear;
    for (const TargetWeight& weight : weights)
        if (multipliesRows(weight) && weight.sites.size() == 1) linear.push_back(&weight);
    const std::vector<LayerStage> stages = stagesOf(linear);
    std::vector<calibration::MomentsRequest> requests;
    calibration::ValueSet inputs;
    for (const LayerStage& stage : stages) {
        requests.push_back({stage.inputs.front()});
        inputs.insert(stage.inputs.front());
    }
    auto moments = calibration::collectMoments(model, model, requests, {fit, unseen}, silentProgress());
    const auto channels = calibration::collectChannelStatistics(
        model, fit, inputs, calibration::MomentOrder::first, silentProgress());
    std::vector<Stage> result;
    for (std::size_t i = 0; i < stages.size(); ++i) {
        Stage& stage = result.emplace_back();
        stage.fit = std::move(moments[i].fit);
        stage.unseen = std::move(moments[i].heldBack);
        stage.meanAbsolute = channels.at(stages[i].inputs.front()).meanAbsolute;
        for (std::int64_t k = 0; k < stage.fit.inputs; ++k)
            stage.importance.push_back(
                static_cast<float>(stage.fit.gram[static_cast<std::size_t>(k * stage.fit.inputs + k)]));
        for (const TargetWeight* weight : stages[i].weights) {
            const Tensor& constant = *weight->constant->constant();
            stage.layers.push_back(
                {constant.data<float>(), groupedLayout(constant.shape(), weight->inAxis, kGroup)});
        }
    }
    return result;
}

/// What the layers' weights become, one entry a layer.
using Method = std::function<std::vector<std::vector<float>>(const Stage&)>;

/// A method that looks at one layer after another.
template <class Quantize>
Method oneByOne(Quantize quantize) {
    return [=](const Stage& stage) {
        std::vector<std::vector<float>> weights;
        for (const AwqLayer& layer : stage.layers) weights.push_back(dequantizeWeights(*quantize(layer, stage)));
        return weights;
    };
}

/// Mean over all layers of ‖X·(W − V)‖² / ‖X·W‖² on the samples that were not seen.
double missed(const std::vector<Stage>& stages, const Method& method) {
    double sum = 0;
    std::size_t layers = 0;
    for (const Stage& stage : stages) {
        const auto weights = method(stage);
        for (std::size_t i = 0; i < stage.layers.size(); ++i) {
            const AwqLayer& layer = stage.layers[i];
            sum += std::pow(relativeOutputError(layer.weights, weights[i], layer.layout, stage.unseen.gram), 2);
            ++layers;
        }
    }
    REQUIRE(layers > 0);
    return sum / static_cast<double>(layers);
}

/// Whether there are several rows for each input of a layer: what is fitted closely then holds for other rows.
enum class Rows { many, few };

void checkOrder(const std::vector<Stage>& stages, int bits, Rows rows) {
    const double damp = rows == Rows::many ? 0.01 : 0.1;
    QuantizationRule mse, minmax;
    mse.bits = minmax.bits = bits;
    mse.symmetry = minmax.symmetry = Symmetry::asymmetric;
    mse.scaleType = minmax.scaleType = DType::float16;
    mse.range = RangeChoice::mse;
    const auto nearest = [&](const QuantizationRule& rule) {
        return missed(stages, oneByOne([&](const AwqLayer& layer, const Stage&) {
                          return quantizeWeights(layer.weights, layer.layout, rule);
                      }));
    };
    const auto gptq = [&](std::int64_t sweeps) {
        return missed(stages, oneByOne([&, sweeps](const AwqLayer& layer, const Stage& stage) {
                          auto codes = test::gptqOf(layer.weights, layer.layout, mse, stage.fit.gram, {damp});
                          if (sweeps > 0) descend(*codes, layer.weights, stage.fit.gram, {sweeps, damp});
                          return codes;
                      }));
    };
    const double atMinmax = nearest(minmax), atMse = nearest(mse);
    const double byHqq = missed(stages, oneByOne([&](const AwqLayer& layer, const Stage&) {
                                    return quantizeByHqq(layer.weights, layer.layout, mse, {});
                                }));
    const double byHqqWithData = missed(stages, oneByOne([&](const AwqLayer& layer, const Stage& stage) {
                                            return quantizeByHqq(layer.weights, layer.layout, mse, {},
                                                                 stage.importance);
                                        }));
    const double byAwq = missed(stages, [&](const Stage& stage) {
        const auto solved =
            quantizeByAwq(stage.layers, mse, stage.fit.gram, stage.meanAbsolute, kAwqSteps);
        std::vector<float> inverse;
        for (const float scale : solved->scales) inverse.push_back(1.0F / scale);
        std::vector<std::vector<float>> weights;
        for (std::size_t i = 0; i < stage.layers.size(); ++i)
            weights.push_back(scaledByInputChannel(dequantizeWeights(solved->weights[i]),
                                                   stage.layers[i].layout, inverse));
        return weights;
    });
    const double byGptq = gptq(0), byDescent = gptq(4);
    INFO(bits << " bits: minmax " << atMinmax << ", mse " << atMse << ", HQQ " << byHqq << ", HQQ with data "
              << byHqqWithData << ", AWQ " << byAwq << ", GPTQ " << byGptq << ", with descent " << byDescent);
    CHECK(byHqq < atMinmax);
    CHECK(byHqqWithData < std::min(atMinmax, atMse));
    CHECK(byAwq < std::min(atMinmax, atMse));
    CHECK(byGptq < byAwq);
    if (rows == Rows::many) CHECK(byDescent < byGptq);
}

struct ZooModel {
    const char* model;
    const char* data;
};

}  // namespace

TEST_CASE("HQQ, AWQ and GPTQ beat rounding to nearest in the outputs of layers") {
    const auto [name, dataName] = GENERATE(values<ZooModel>({{"vit_digits", "digits"},
                                                             {"vit_mnist5k", "mnist5k"},
                                                             {"gpt2_char", "fortunes_char"},
                                                             {"llama_char", "fortunes_char"},
                                                             {"t5_char_encoder", "devowel"},
                                                             {"t5_char_decoder", "devowel"}}));
    const ir::Model model = test::dataModel(name);
    const auto samples = [&, name = std::string(name), dataName = std::string(dataName)](const char* part,
                                                                                         std::int64_t count) {
        data::Dataset own = test::samplesOf(dataName + "_" + part, 0, count);
        return name == "t5_char_decoder" ? test::behindEncoder(own) : data::fitToModel(own, model);
    };
    const std::vector<Stage> stages =
        stagesOfModel(model, samples("calibration", 60), samples("validation", 30));
    for (const int bits : {4, 3, 2}) {
        INFO(name);
        checkOrder(stages, bits, Rows::many);
    }
}

TEST_CASE("HQQ, AWQ and GPTQ beat rounding to nearest on sentence encoders", "[zoo]") {
    const auto [name, dataName] = GENERATE(
        values<ZooModel>({{"minilm_l3.onnx", "sentences"}, {"sentiment_minilm_l6.onnx", "sentiment3"}}));
    const std::filesystem::path path = test::zooModel(name);
    if (path.empty()) return;
    const ir::Model model = ir::load(path);
    const std::string calibration = std::string(dataName) + "_calibration";
    const std::vector<Stage> stages =
        stagesOfModel(model, data::fitToModel(test::samplesOf(calibration, 0, 100), model),
                      data::fitToModel(test::samplesOf(calibration, 100, 128), model));
    const int bits = GENERATE(4, 3, 2);
    INFO(name);
    checkOrder(stages, bits, Rows::few);
}
