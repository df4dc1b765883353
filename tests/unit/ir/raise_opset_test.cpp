#include <catch2/catch.hpp>

#include "lib/ir/checker.h"
#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "lib/support/error.h"

using namespace tcompress;
using namespace tcompress::ir;
using Catch::Matchers::Contains;

namespace {

std::vector<std::string> operators(const Model& model) {
    std::vector<std::string> types;
    for (const auto& node : model.graph().nodes()) types.push_back(node->opType());
    return types;
}

using Types = std::vector<std::string>;

}  // namespace

TEST_CASE("a model that has the opset comes back as it is") {
    Model model = fromText(
        R"(<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) })");
    std::uint64_t revision = model.revision();
    model = raiseOpset(std::move(model), 13);
    CHECK(model.opset() == 17);
    CHECK(model.revision() == revision);
}

TEST_CASE("axes move from an attribute to an input, and what did not change is kept as it was") {
    onnx::ModelProto proto = modelToProto(fromText(R"(
        <ir_version: 7, opset_import: ["" : 12, "com.microsoft" : 1]>
        g (float[2,1,3] x) => (float[2] y)
        { a = Squeeze <axes = [1]> (x)
          b = com.microsoft.Mystery <k = 3> (a)
          c = Relu(b)
          y = ReduceSum <axes = [1], keepdims = 0> (c) })"),
                                          WeightData::embed);
    // Kept although onnx::Graph, which the converter uses, knows neither.
    auto& entry = *proto.mutable_graph()->mutable_node(0)->add_metadata_props();
    entry.set_key("origin");
    entry.set_value("layer 7");
    proto.mutable_graph()->mutable_node(3)->set_doc_string("the sum");
    proto.mutable_graph()->mutable_node(2)->set_name("rectifier");

    Model model = raiseOpset(fromProto(proto), 21);
    validateStructure(model);
    CHECK(model.opset() == 21);
    CHECK(model.envelope().ir_version() == 10);
    CHECK(operators(model) == Types{"Squeeze", "Mystery", "Relu", "ReduceSum"});
    const Node& squeeze = *model.graph().nodes()[0];
    REQUIRE(squeeze.input(1) != nullptr);
    CHECK(toInt64(*squeeze.input(1)->constant()) == std::vector<std::int64_t>{1});
    CHECK(squeeze.attribute("axes") == nullptr);
    CHECK(squeeze.proto().metadata_props(0).value() == "layer 7");
    const Node& sum = *model.graph().nodes()[3];
    CHECK(toInt64(*sum.input(1)->constant()) == std::vector<std::int64_t>{1});
    CHECK(sum.proto().doc_string() == "the sum");
    CHECK(sum.attributeInt("keepdims", 1) == 0);
    CHECK(model.graph().nodes()[2]->name() == "rectifier");
    CHECK(model.graph().find("y")->shape() == Shape{2});
}

TEST_CASE("what ONNX Runtime puts into ONNX's domain is raised and written like the rest") {
    Model model = fromText(R"(
        <ir_version: 7, opset_import: ["" : 14]>
        g (float[2, 4] x, float[4] gain) => (float[2, 4] y) {
            a = LayerNormalization<axis = -1, epsilon = 1e-5>(x, gain)
            y = SimplifiedLayerNormalization<axis = -1, epsilon = 1e-5>(a, gain)
        })");
    const std::filesystem::path file = std::filesystem::temp_directory_path() / "tcompress_runtime_operators.onnx";
    for (const std::int64_t opset : {14, 17, 21}) {
        CAPTURE(opset);
        model = raiseOpset(std::move(model), opset);
        CHECK(model.opset() == opset);
        CHECK(operators(model) == Types{"LayerNormalization", "SimplifiedLayerNormalization"});
        save(model, file);
        checkWrittenFile(file, file);
        // In the domain that ONNX Runtime looks for them in.
        const Model read = load(file);
        for (const auto& node : read.graph().nodes()) CHECK(node->domain().empty());
    }
    std::filesystem::remove(file);
    CHECK_THROWS_WITH(raiseOpset(fromText(R"(<ir_version: 7, opset_import: ["" : 14]> g (float[2] x) => (float[2] y) { y = Normalise(x) })"), 21),
                      Contains("'Normalise', which ONNX does not know"));
}

TEST_CASE("one node may become several") {
    // Before opset 13 Softmax flattened the axes from `axis` on into one.
    Model model = raiseOpset(fromText(R"(
        <ir_version: 7, opset_import: ["" : 12]>
        g (float[2,3,4] x) => (float[2,3,4] y)
        { a = Relu(x)
          b = Softmax <axis = 1> (a)
          y = Neg(b) })"),
                             13);
    validateStructure(model);
    CHECK(operators(model) == Types{"Relu", "Shape", "Flatten", "Softmax", "Reshape", "Neg"});
    CHECK(model.graph().find("b")->producer()->opType() == "Reshape");
    CHECK(model.graph().find("b")->shape() == Shape{2, 3, 4});
}

TEST_CASE("bodies are converted too and still see the values around them") {
    Model model = raiseOpset(fromText(R"(
        <ir_version: 7, opset_import: ["" : 12]>
        g (float[2,1] x, bool c) => (float[2] y)
        { a = Relu(x)
          y = If(c) <then_branch = t () => (float[2] r) { r = Squeeze <axes = [1]> (a) },
                     else_branch = e () => (float[2] s) { s = Squeeze <axes = [1]> (x) }> })"),
                             17);
    validateStructure(model);
    const Node* branch = model.graph().find("y")->producer();
    CHECK(branch->captured() == std::vector<Value*>{model.graph().find("a"), model.graph().find("x")});
    CHECK(toText(model).find("axes =") == std::string::npos);
}

TEST_CASE("large weights do not go through the converter") {
    Tensor weights(DType::float32, {64, 64});
    weights.mutableData<float>()[17] = 3.0f;
    onnx::ModelProto proto = modelToProto(fromText(R"(<ir_version: 7, opset_import: ["" : 12]>
        g (float[2,64] x) => (float[2,64] y) <float w = {0}> { y = MatMul(x, w) })"),
                                          WeightData::embed);
    onnx::TensorProto& w = *proto.mutable_graph()->mutable_initializer(0);
    w.clear_float_data();
    w.add_dims(64);
    w.add_dims(64);
    w.set_raw_data(weights.bytes().data(), weights.sizeBytes());
    Model source = fromProto(proto);
    Tensor before = *source.graph().find("w")->constant();
    Model raised = raiseOpset(std::move(source), 21);
    CHECK(raised.graph().find("w")->constant()->sharesBytesWith(before));
}

TEST_CASE("what ONNX cannot convert is one error with its reason") {
    auto raise = [](const char* text, std::int64_t version) { return raiseOpset(fromText(text), version); };
    CHECK_THROWS_WITH(raise(R"(<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y)
                              { y = Mystery(x) })",
                            21),
                      Contains("17 to 21") && Contains("Mystery"));
    CHECK_THROWS_AS(raise(R"(<ir_version: 8, opset_import: ["other" : 1]> g (float[2] x) => (float[2] y)
                            { y = other.Op(x) })",
                          21),
                    ModelError);
    CHECK_THROWS_WITH(raise(R"(<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y)
                              { y = ReduceSum(x) })",
                            999),
                      Contains("17 to 999"));
}
