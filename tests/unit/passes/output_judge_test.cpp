// Judging edited models by their outputs: what is not finite is never the best.

#include "passes/support/output_judge.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "lib/data/calibration_data.h"
#include "lib/ir/edit.h"
#include "lib/support/error.h"
#include "passes/support/local_search.h"
#include "passes/support/removal_paths.h"
#include "tests/support/text_model.h"

using namespace tcompress;

namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();

/// y = x · w + m, four units read.
ir::Model linear() {
    return test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w, float[3] m = {0, 0, 0}> {
    p = MatMul(x, w)
    y = Add(p, m)
})");
}

ir::Model with(const ir::Model& model, const std::string& constant, std::size_t element, float value) {
    ir::Model edited = model.clone();
    ir::Value* changed = edited.graph().find(constant);
    Tensor tensor = *changed->constant();
    tensor.mutableData<float>()[element] = value;
    ir::Edit edit(edited, "test");
    edit.setConstant(changed, tensor);
    edit.commit();
    return edited;
}

const pipeline::PassContext& context() {
    static const pipeline::PassContext instance(nullptr, 0, "0", silentProgress());
    return instance;
}

}  // namespace

TEST_CASE("outputs that are masked in the original say nothing, and a model that overflows is infinitely far") {
    const ir::Model masked = with(linear(), "m", 1, -kInfinite);
    const data::Dataset samples = data::syntheticDataset(masked, 6, /*seed=*/1);
    const passes::OutputJudge judge(masked, {"y"}, samples, context());
    CHECK(judge.error(masked) == 0);
    const double error = judge.error(with(masked, "m", 0, 0.5F));
    CHECK(error > 0);
    CHECK(std::isfinite(error));
    CHECK(std::isinf(judge.error(with(masked, "w", 0, kInfinite))));
    CHECK(std::isinf(judge.error(with(masked, "m", 2, std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("nothing is said where no output of the original is a number") {
    const ir::Model model = with(with(with(linear(), "m", 0, kInfinite), "m", 1, kInfinite), "m", 2, -kInfinite);
    const data::Dataset samples = data::syntheticDataset(model, 6, /*seed=*/1);
    CHECK_THROWS_AS(passes::OutputJudge(model, {"y"}, samples, context()), DataError);
}

TEST_CASE("outputs that do not fit into memory are judged as those that do") {
    const ir::Model model = linear();
    const data::Dataset samples = data::syntheticDataset(model, 6, /*seed=*/1);
    calibration::Resources little;
    little.memoryLimitBytes = 8;
    const pipeline::PassContext sparing(nullptr, 0, "0", silentProgress(), std::make_shared<pipeline::ViewCache>(), little);
    const ir::Model edited = with(model, "m", 0, 0.5F);
    const double error = passes::OutputJudge(model, passes::floatOutputs(model), samples, sparing).error(edited);
    CHECK(error > 0);
    CHECK(error == passes::OutputJudge(model, {"y"}, samples, context()).error(edited));
}

TEST_CASE("a trial whose error is no number is not taken") {
    const auto [best, error] = passes::refinedByTrials(
        1, 0.5, 3, [](int state) { return std::optional(state + 1); },
        [](int) { return std::numeric_limits<double>::quiet_NaN(); });
    CHECK(best == 1);
    CHECK(error == 0.5);
}

TEST_CASE("units whose removal makes outputs overflow cost infinitely much") {
    const ir::Model model = linear();
    const data::Dataset samples = data::syntheticDataset(model, 6, /*seed=*/1);
    const passes::OutputJudge judge(model, {"y"}, samples, context());
    calibration::TensorStore store(1 << 20);
    const auto stage = [&](std::int64_t keep, float weight) {
        Tensor weights(DType::float32, {4, 3});
        std::fill_n(weights.mutableData<float>().begin(), 12, weight);
        return passes::UnitStage{keep, {{"w", {0, 1, 2, 3}, store.add(weights), {0, 0, 0}}}};
    };
    passes::RemovalPath path;
    path.errors = {0.1, 0.2, 0.3};
    path.stages.push_back(stage(2, 0.01F));
    path.stages.push_back(stage(1, kInfinite));
    const std::vector<double> errors = passes::outputErrors(model, path, store, 4, judge);
    REQUIRE(errors.size() == 3);
    CHECK(std::isfinite(errors[1]));
    CHECK(std::isinf(errors[2]));
}
