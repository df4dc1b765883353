#include "tests/unit/passes/weight_models.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/data/dataset.h"
#include "lib/exec/executor.h"
#include "lib/ir/edit.h"
#include "lib/ir/save.h"
#include "lib/support/random.h"
#include "tests/support/judge.h"

namespace tcompress::test {

Tensor randomTensor(Shape shape, std::uint64_t seed, double deviation) {
    Tensor tensor(DType::float32, std::move(shape));
    Random random(seed, "weights");
    for (float& value : tensor.mutableData<float>()) value = static_cast<float>(random.normal() * deviation);
    return tensor;
}

ir::Model modelWithWeights(const std::string& text, const std::map<std::string, Shape>& weights) {
    ir::Model model = ir::fromText(text);
    ir::Edit edit(model, "test");
    std::uint64_t seed = 1;
    for (const auto& [name, shape] : weights) {
        ir::Value* value = model.graph().find(name);
        if (value == nullptr) FAIL("no initializer '" << name << "'");
        edit.setConstant(value, randomTensor(shape, seed++));
    }
    edit.commit();
    // Types were inferred with the placeholders: read the finished model again.
    return ir::fromProto(ir::modelToProto(model, ir::WeightData::embed));
}

ir::Model dataModel(const std::string& name) {
    return ir::load(std::filesystem::path(TCOMPRESS_TEST_DATA) / "models" / (name + ".onnx"));
}

Feeds feedsFor(const ir::Model& model) {
    const data::Dataset data = data::syntheticDataset(model, /*samples=*/2, /*seed=*/7,
                                                      {{"sequence", 9},
                                                       {"seq", 9},
                                                       {"past", 3},
                                                       {"past_sequence", 3},
                                                       {"total", 12},
                                                       {"total_sequence", 12}});
    return data::fitToModel(data, model).rows(0, 2);
}

std::vector<Tensor> outputsOf(const ir::Model& model, const Feeds& feeds) {
    return exec::Executor(model).run(feeds);
}

std::vector<Tensor> runtimeOutputsOf(const ir::Model& model, const Feeds& feeds) {
    const ScratchFolder scratch;
    ir::save(model, scratch.path() / "model.onnx");
    const auto byName = runInOnnxRuntime(scratch.path() / "model.onnx", feeds);
    std::vector<Tensor> outputs;
    for (const ir::Value* output : model.graph().outputs()) outputs.push_back(byName.at(output->name()));
    return outputs;
}

double largestDifference(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    REQUIRE(a.size() == b.size());
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        REQUIRE(a[i].shape() == b[i].shape());
        const auto x = toFloat32(a[i]), y = toFloat32(b[i]);
        if (x.empty()) continue;
        const auto [low, high] = std::minmax_element(y.begin(), y.end());
        const double range = std::max(1e-30, static_cast<double>(*high) - *low);
        for (std::size_t j = 0; j < x.size(); ++j) {
            const double difference = std::fabs(static_cast<double>(x[j]) - y[j]);
            if (std::isnan(difference)) FAIL("NaN in output " << i);
            worst = std::max(worst, difference / range);
        }
    }
    return worst;
}

std::size_t countOf(const ir::Model& model, const std::string& opType) {
    const auto& nodes = model.graph().nodes();
    return static_cast<std::size_t>(std::count_if(
        nodes.begin(), nodes.end(), [&](const auto& node) { return node->opType() == opType; }));
}

const pipeline::SkippedSite* skippedSite(const pipeline::PassReport& report, const std::string& site) {
    const auto found = std::find_if(report.skipped.begin(), report.skipped.end(),
                                    [&](const auto& skipped) { return skipped.site == site; });
    return found == report.skipped.end() ? nullptr : &*found;
}

}  // namespace tcompress::test
