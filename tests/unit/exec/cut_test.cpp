// Plans of a part of a graph: computed values fed, other values asked for, and only the nodes between them
// run.

#include <catch2/catch.hpp>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace {

using namespace tcompress;

const char* const kModel = R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[N, 2] x, float[N, 2] scale) => (float[N, 2] y, float[N, 2] z) <float[2, 2] w = {1, 2, 3, 4}> {
    a = MatMul(x, w)
    b = Relu(a)
    c, d = Split<axis = 1, num_outputs = 2>(b)
    e = Concat<axis = 1>(d, c)
    y = Mul(e, scale)
    z = Neg(a)
}
)";

const ir::Value* named(const ir::Model& model, const char* name) { return model.graph().find(name); }

Tensor row(float first, float second) { return Tensor::of<float>({1, 2}, {first, second}); }

std::int64_t nodesRun(const exec::Executor& executor) {
    std::int64_t count = 0;
    for (const auto& entry : executor.profile()) count += entry.calls;
    return count;
}

struct Recorder : exec::Observer {
    explicit Recorder(const ir::Value* value) : wanted(value) {}
    bool wants(const ir::Value& value) const override { return &value == wanted; }
    void observe(const ir::Value&, const Tensor& tensor) override { seen.push_back(toFloat32(tensor)); }
    const ir::Value* wanted;
    std::vector<std::vector<float>> seen;
};

TEST_CASE("a cut feeds computed values and runs only the nodes behind them") {
    const ir::Model model = ir::fromText(kModel);
    for (const exec::Fusion fusion : {exec::Fusion::none, exec::Fusion::full}) {
        exec::Executor executor(model, {fusion, {named(model, "b")}, {{named(model, "y")}}});
        REQUIRE(executor.inputs() == std::vector<const ir::Value*>{named(model, "b"), named(model, "scale")});
        const auto outputs = executor.run({{"b", row(5, 7)}, {"scale", row(2, 3)}});
        REQUIRE(outputs.size() == 1);
        CHECK(toFloat32(outputs[0]) == std::vector<float>{14, 15});
        CHECK(nodesRun(executor) == 3);
    }
}

TEST_CASE("an output may be an inner value, an input, or asked for twice") {
    const ir::Model model = ir::fromText(kModel);
    const std::vector<const ir::Value*> outputs{named(model, "b"), named(model, "x"), named(model, "b"),
                                                named(model, "w")};
    exec::Executor executor(model, {exec::Fusion::full, {}, outputs});
    REQUIRE(executor.inputs() == std::vector<const ir::Value*>{named(model, "x")});
    // A graph input that is not needed may be fed all the same.
    const auto computed = executor.run({{"x", row(1, 1)}, {"scale", row(0, 0)}});
    REQUIRE(computed.size() == 4);
    CHECK(toFloat32(computed[0]) == std::vector<float>{4, 6});
    CHECK(toFloat32(computed[1]) == std::vector<float>{1, 1});
    CHECK(toFloat32(computed[2]) == toFloat32(computed[0]));
    CHECK(toFloat32(computed[3]) == std::vector<float>{1, 2, 3, 4});
}

TEST_CASE("without outputs a plan runs what the observer wants and no more") {
    const ir::Model model = ir::fromText(kModel);
    Recorder recorder(named(model, "a"));
    exec::Executor executor(model, {exec::Fusion::full, {}, std::vector<const ir::Value*>{}}, &recorder);
    CHECK(executor.run({{"x", row(1, -1)}}).empty());
    CHECK(recorder.seen == std::vector<std::vector<float>>{{-2, -2}});
    CHECK(nodesRun(executor) == 1);
}

TEST_CASE("a cut value is observed like any other, and one of a node's several outputs may be fed") {
    const ir::Model model = ir::fromText(kModel);
    Recorder recorder(named(model, "c"));
    exec::Executor executor(model, {exec::Fusion::full, {named(model, "c")}, {{named(model, "e")}}},
                            &recorder);
    REQUIRE(executor.inputs() == std::vector<const ir::Value*>{named(model, "c"), named(model, "x")});
    const auto outputs = executor.run({{"c", Tensor::of<float>({1, 1}, {9})}, {"x", row(1, 1)}});
    CHECK(toFloat32(outputs.at(0)) == std::vector<float>{6, 9});
    CHECK(recorder.seen == std::vector<std::vector<float>>{{9}});
}

TEST_CASE("a cut says which feed is missing or unknown") {
    const ir::Model model = ir::fromText(kModel);
    exec::Executor executor(model, {exec::Fusion::full, {named(model, "b")}, {{named(model, "y")}}});
    CHECK_THROWS_WITH(executor.run({{"b", row(1, 1)}}), Catch::Contains("'scale' is not fed"));
    CHECK_THROWS_WITH(executor.run({{"b", row(1, 1)}, {"scale", row(1, 1)}, {"e", row(1, 1)}}),
                      Catch::Contains("no input 'e'"));
    CHECK_THROWS_WITH(executor.run({{"b", Tensor::of<float>({2}, {1, 1})}, {"scale", row(1, 1)}}),
                      Catch::Contains("'b'"));
}

}  // namespace
