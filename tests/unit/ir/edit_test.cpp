#include "lib/ir/edit.h"

#include <catch2/catch.hpp>

#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "lib/support/error.h"

using namespace tcompress;
using namespace tcompress::ir;
using Catch::Matchers::Contains;

namespace {

Model chain() {
    return fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2,3] x) => (float[2,4] y)
        <float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[4] b = {1,1,1,1}>
        {
            m = MatMul(x, w)
            a = Add(m, b)
            y = Relu(a)
        })");
}

Node* nodeOf(Model& model, std::string_view value) { return model.graph().find(value)->producer(); }

std::vector<std::string> operators(const Model& model) {
    std::vector<std::string> types;
    for (const auto& node : model.graph().nodes()) types.push_back(node->opType());
    return types;
}

using Types = std::vector<std::string>;

}  // namespace

TEST_CASE("an edit changes nothing before commit and everything after") {
    Model model = chain();
    std::string before = toText(model);
    std::uint64_t revision = model.revision();

    Edit edit(model, "test");
    CHECK(edit.empty());
    Value* scale = edit.addInitializer("w", Tensor::scalar(2.0f));
    CHECK(scale->name() == "w_1");
    Node* mul = edit.addNode({"Mul", "", "", {model.graph().find("m"), scale}, 1, {}});
    edit.replaceAllUses(model.graph().find("m"), mul->output(), {mul});
    CHECK_FALSE(edit.empty());
    CHECK(toText(model) == before);
    CHECK(model.revision() == revision);

    edit.commit();
    validateStructure(model);
    CHECK(edit.empty());
    CHECK(model.revision() > revision);
    CHECK(operators(model) == Types{"MatMul", "Mul", "Add", "Relu"});
    CHECK(nodeOf(model, "a")->input(0) == mul->output());
    CHECK(mul->proto().metadata_props(0).key() == "tcompress.pass");
    CHECK(mul->proto().metadata_props(0).value() == "test");
}

TEST_CASE("types downstream of a change are dropped and inferred again") {
    Model model = chain();
    CHECK(model.graph().find("a")->shape() == Shape{2, 4});
    Edit edit(model, "test");
    edit.setConstant(model.graph().find("w"), Tensor(DType::float32, {3, 7}));
    edit.setConstant(model.graph().find("b"), Tensor(DType::float32, {7}));
    edit.setDimension(model.graph().find("y"), 1, 7);
    edit.commit();
    CHECK(model.graph().find("w")->shape() == Shape{3, 7});
    CHECK_FALSE(model.graph().find("a")->shape().has_value());
    inferTypes(model);
    CHECK(model.graph().find("a")->shape() == Shape{2, 7});
    CHECK(model.graph().find("y")->shape() == Shape{2, 7});
}

TEST_CASE("new float data of the same shape leave the types alone") {
    Model model = chain();
    Edit edit(model, "test");
    edit.setConstant(model.graph().find("w"), Tensor(DType::float32, {3, 4}));
    edit.commit();
    CHECK(model.graph().find("a")->shape() == Shape{2, 4});
}

TEST_CASE("what an edit leaves without use is removed with what only it used") {
    Model model = chain();
    Edit edit(model, "test");
    edit.replaceInput(nodeOf(model, "y"), 0, model.graph().find("x"));
    edit.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"Relu"});
    CHECK(model.graph().initializers().empty());
    CHECK(model.graph().find("w") == nullptr);
    CHECK(model.graph().find("m") == nullptr);
    CHECK(model.graph().inputs().size() == 1);
}

TEST_CASE("what was unused before an edit stays") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) <float[2] spare = {1,2}>
        { unused = Neg(x)
          y = Relu(x) })");
    Edit edit(model, "test");
    edit.setOpType(nodeOf(model, "y"), "Abs");
    edit.commit();
    CHECK(operators(model) == Types{"Neg", "Abs"});
    CHECK(model.graph().find("spare") != nullptr);

    DeadCode dead = removeDeadCode(model);
    CHECK(dead.nodes == 1);
    CHECK(dead.initializers == 1);
    validateStructure(model);
    CHECK(operators(model) == Types{"Abs"});
}

TEST_CASE("graph inputs that lose all uses stay") {
    Model model = chain();
    Edit edit(model, "test");
    edit.replaceInput(nodeOf(model, "a"), 0, edit.addInitializer("constant", Tensor(DType::float32, {2, 4})));
    edit.commit();
    validateStructure(model);
    CHECK(model.graph().inputs().size() == 1);
    CHECK(operators(model) == Types{"Add", "Relu"});
}

TEST_CASE("a graph output keeps its name when its producer changes") {
    Model model = chain();
    Edit edit(model, "test");
    Node* sigmoid = edit.addNode({"Sigmoid", "", "", {model.graph().find("a")}, 1, {}});
    edit.replaceAllUses(model.graph().find("y"), sigmoid->output());
    edit.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"MatMul", "Add", "Sigmoid"});
    CHECK(sigmoid->output()->name() == "y");
    CHECK(model.graph().find("y") == sigmoid->output());
    CHECK(model.graph().find("y")->shape() == Shape{2, 4});
}

TEST_CASE("the old producer of an output lives on under another name when it is still needed") {
    Model model = chain();
    Edit edit(model, "test");
    Value* y = model.graph().find("y");
    Node* abs = edit.addNode({"Abs", "", "", {y}, 1, {}});
    edit.replaceAllUses(y, abs->output(), {abs});
    edit.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"MatMul", "Add", "Relu", "Abs"});
    CHECK(abs->output()->name() == "y");
    CHECK(y->name() == "y_replaced");
    CHECK_FALSE(y->isGraphOutput());
}

TEST_CASE("values that must keep their own name reach an output through Identity") {
    Model model = chain();
    SECTION("a graph input") {
        Edit edit(model, "test");
        edit.replaceAllUses(model.graph().find("y"), model.graph().find("x"));
        edit.commit();
        CHECK(operators(model) == Types{"Identity"});
    }
    SECTION("an initializer") {
        Edit edit(model, "test");
        edit.replaceAllUses(model.graph().find("y"),
                            edit.addInitializer("k", Tensor(DType::float32, {2, 4})));
        edit.commit();
        CHECK(operators(model) == Types{"Identity"});
    }
    validateStructure(model);
    CHECK(model.graph().outputs()[0]->name() == "y");
}

TEST_CASE("two outputs may exchange their values or share one") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y, float[2] z)
        { y = Relu(x)
          z = Neg(x) })");
    Value* y = model.graph().find("y");
    Value* z = model.graph().find("z");
    SECTION("exchanged") {
        Edit edit(model, "test");
        Node* abs = edit.addNode({"Abs", "", "", {y}, 1, {}});
        edit.replaceAllUses(y, abs->output(), {abs});
        edit.replaceAllUses(z, y, {});
        edit.replaceAllUses(abs->output(), z, {});
        edit.commit();
        CHECK(y->name() == "z");
        CHECK(z->name() == "y");
        CHECK(operators(model) == Types{"Relu", "Neg"});
    }
    SECTION("shared") {
        Edit edit(model, "test");
        edit.replaceAllUses(z, y);
        edit.commit();
        CHECK(y->name() == "y");
        CHECK(operators(model) == Types{"Relu", "Identity"});
        CHECK(model.graph().find("z")->producer()->input(0) == y);
    }
    validateStructure(model);
    CHECK(model.graph().outputs()[0]->name() == "y");
    CHECK(model.graph().outputs()[1]->name() == "z");
}

TEST_CASE("new nodes stand directly before their first user and nothing else moves") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y)
        { a = Relu(x)
          b = Neg(x)
          c = Exp(b)
          y = Add(a, c) })");
    Edit edit(model, "test");
    Node* first = edit.addNode({"Sin", "", "", {model.graph().find("x")}, 1, {}});
    Node* second = edit.addNode({"Cos", "", "", {first->output()}, 1, {}});
    edit.replaceInput(nodeOf(model, "c"), 0, second->output());
    edit.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"Relu", "Sin", "Cos", "Exp", "Add"});
}

TEST_CASE("an input that is produced later moves its producer up") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y, float[2] z)
        { y = Relu(x)
          z = Neg(x) })");
    Edit edit(model, "test");
    edit.replaceInput(nodeOf(model, "y"), 0, model.graph().find("z"));
    edit.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"Neg", "Relu"});
}

TEST_CASE("a captured value cannot be replaced, and the refusal changes nothing") {
    const char* text = R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, bool c) => (float[2] y)
        { a = Relu(x)
          b = Neg(a)
          y = If(c) <then_branch = t () => (float[2] r) { r = Add(a, a) },
                     else_branch = e () => (float[2] s) { s = Identity(b) }> })";
    Model model = fromText(text);
    Node* branch = nodeOf(model, "y");
    CHECK(branch->captured() == std::vector<Value*>{model.graph().find("a"), model.graph().find("b")});
    std::string before = toText(model);

    Edit edit(model, "prune");
    Node* abs = edit.addNode({"Abs", "", "", {model.graph().find("x")}, 1, {}});
    edit.replaceAllUses(model.graph().find("a"), abs->output());
    CHECK_THROWS_WITH(edit.commit(), Contains("prune") && Contains("'a'") && Contains("sub-graph"));
    CHECK(toText(model) == before);
    validateStructure(model);
    CHECK(edit.empty());

    // Near miss: the same on a value that only nodes of the graph use.
    Edit other(model, "prune");
    Node* sin = other.addNode({"Sin", "", "r", {model.graph().find("x")}, 1, {}});
    other.replaceInput(nodeOf(model, "a"), 0, sin->output());
    other.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"Sin", "Relu", "Neg", "If"});
}

TEST_CASE("new names keep clear of names inside sub-graphs") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, bool c) => (float[2] y)
        { y = If(c) <then_branch = t () => (float[2] k) { k = Add(x, x) },
                     else_branch = e () => (float[2] s) { s = Neg(x) }> })");
    Edit edit(model, "test");
    CHECK(edit.addInitializer("k", Tensor::scalar(1.0f))->name() == "k_1");
    CHECK(edit.addInitializer("k", Tensor::scalar(1.0f))->name() == "k_2");
    CHECK(edit.addInitializer("free", Tensor::scalar(1.0f))->name() == "free");
}

TEST_CASE("mistakes of a pass are refused and change nothing") {
    Model model = chain();
    std::string before = toText(model);
    Edit edit(model, "test");
    SECTION("a cycle") {
        edit.replaceInput(nodeOf(model, "m"), 0, model.graph().find("a"));
        CHECK_THROWS_AS(edit.commit(), InternalError);
    }
    SECTION("a removed node that is still used") {
        edit.removeNode(nodeOf(model, "m"));
        CHECK_THROWS_AS(edit.commit(), InternalError);
    }
    SECTION("an unknown domain") {
        Node* node = edit.addNode({"Gelu", "com.microsoft", "", {model.graph().find("m")}, 1, {}});
        edit.replaceInput(nodeOf(model, "a"), 0, node->output());
        CHECK_THROWS_WITH(edit.commit(), Contains("com.microsoft"));
    }
    SECTION("a value of another model") {
        Model other = chain();
        CHECK_THROWS_AS(edit.replaceInput(nodeOf(model, "m"), 0, other.graph().find("x")), InternalError);
    }
    SECTION("data for a computed value") {
        CHECK_THROWS_AS(edit.setConstant(model.graph().find("m"), Tensor::scalar(1.0f)), InternalError);
    }
    SECTION("a dimension of an inner value") {
        edit.setDimension(model.graph().find("m"), 0, 3);
        CHECK_THROWS_AS(edit.commit(), InternalError);
    }
    SECTION("a standard opset the model does not have") {
        edit.requireOpset("", 21);
        CHECK_THROWS_WITH(edit.commit(), Contains("raiseOpset"));
    }
    CHECK(toText(model) == before);
    validateStructure(model);
}

TEST_CASE("a domain can be required together with the node that needs it") {
    Model model = chain();
    Edit edit(model, "test");
    edit.requireOpset("com.microsoft", 1);
    Node* node = edit.addNode({"Gelu", "com.microsoft", "gelu", {model.graph().find("a")}, 1, {}});
    edit.replaceInput(nodeOf(model, "y"), 0, node->output());
    edit.commit();
    validateStructure(model);
    CHECK(model.opset("com.microsoft") == 1);
    CHECK(node->is("com.microsoft", "Gelu"));
    CHECK(node->output()->name() == "gelu_output_0");
}

TEST_CASE("attributes are set, replaced and removed") {
    Model model = chain();
    Edit edit(model, "test");
    Node* node = edit.addNode({"Gemm",
                               "",
                               "",
                               {model.graph().find("x"), model.graph().find("w")},
                               1,
                               {{"alpha", 2.0f}, {"transB", std::int64_t{0}}}});
    edit.setAttribute(node, {"alpha", 3.0f});
    edit.removeAttribute(node, "transB");
    edit.setAttribute(node, {"note", std::string("text")});
    edit.setAttribute(node, {"list", std::vector<std::int64_t>{1, 2}});
    edit.replaceInput(nodeOf(model, "a"), 0, node->output());
    CHECK(node->input(1) == model.graph().find("w"));
    CHECK(node->attributeFloat("alpha", 0) == 3.0f);
    edit.commit();
    CHECK(node->attributeFloat("alpha", 0) == 3.0f);
    CHECK(node->attribute("transB") == nullptr);
    CHECK(node->attributeString("note", "") == "text");
    CHECK(node->attributeInts("list") == std::vector<std::int64_t>{1, 2});
    CHECK(node->attributeInt("none", 7) == 7);
}

TEST_CASE("new data of a Constant node are written into its attribute") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y)
        { k = Constant <value_floats = [1.0, 2.0]> ()
          y = Add(x, k) })");
    Value* k = model.graph().find("k");
    REQUIRE(k->constantKind() == ConstantKind::constantNode);
    CHECK(k->constant()->data<float>()[1] == 2.0f);
    Edit edit(model, "test");
    edit.setConstant(k, Tensor::of<float>({2}, {5, 6}));
    edit.commit();
    Model again = fromProto(modelToProto(model, WeightData::embed));
    const Node* node = again.graph().find("k")->producer();
    CHECK(node->attribute("value_floats") == nullptr);
    CHECK(again.graph().find("k")->constant()->data<float>()[0] == 5.0f);
}

TEST_CASE("an optional input can be left out") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x, float lo, float hi) => (float[4] y)
        { y = Clip(x, lo, hi) })");
    Edit edit(model, "test");
    edit.replaceInput(nodeOf(model, "y"), 1, nullptr);
    edit.commit();
    validateStructure(model);
    CHECK(nodeOf(model, "y")->inputs().size() == 3);
    CHECK(nodeOf(model, "y")->input(1) == nullptr);
    Edit second(model, "test");
    second.replaceInput(nodeOf(model, "y"), 2, nullptr);
    second.commit();
    CHECK(nodeOf(model, "y")->inputs().size() == 1);
}

TEST_CASE("a value inside becomes a graph output, and what it needs stays") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y)
        { a = Relu(x)
          y = Neg(a) })");
    Edit edit(model, "test");
    Value* square = edit.addNode({"Mul", "", "", {model.graph().find("a"), model.graph().find("a")}})->output();
    const std::string name = square->name();
    edit.addGraphOutput(square);
    edit.addGraphOutput(model.graph().find("a"));
    edit.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"Relu", "Neg", "Mul"});
    REQUIRE(model.graph().outputs().size() == 3);
    CHECK(model.graph().outputs()[1]->name() == name);
    CHECK(modelToProto(model, WeightData::embed).graph().output(2).name() == "a");

    Edit back(model, "test");
    back.removeGraphOutput(model.graph().find(name));
    back.commit();
    CHECK(operators(model) == Types{"Relu", "Neg"});
    CHECK(model.graph().outputs().size() == 2);
}

TEST_CASE("graph outputs and unused graph inputs can be removed") {
    Model model = fromText(R"(
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, float[2] cache) => (float[2] y, float[2] z)
        { y = Relu(x)
          z = Add(x, cache) })");
    Edit edit(model, "test");
    edit.removeGraphOutput(model.graph().find("z"));
    edit.removeGraphInput(model.graph().find("cache"));
    edit.commit();
    validateStructure(model);
    CHECK(operators(model) == Types{"Relu"});
    CHECK(model.graph().inputs().size() == 1);
    CHECK(model.graph().outputs().size() == 1);
    CHECK(modelToProto(model, WeightData::embed).graph().input_size() == 1);

    Edit used(model, "test");
    used.removeGraphInput(model.graph().find("x"));
    CHECK_THROWS_WITH(used.commit(), Contains("still used"));
    Edit last(model, "test");
    last.removeGraphOutput(model.graph().find("y"));
    CHECK_THROWS_WITH(last.commit(), Contains("no graph output"));
    validateStructure(model);
}

TEST_CASE("a clone is edited without the original noticing") {
    Model model = chain();
    std::string before = toText(model);
    Model copy = model.clone();
    CHECK(toText(copy) == before);
    Edit edit(copy, "test");
    edit.setConstant(copy.graph().find("w"), Tensor(DType::float32, {3, 4}));
    edit.setOpType(nodeOf(copy, "y"), "Neg");
    edit.commit();
    validateStructure(copy);
    validateStructure(model);
    CHECK(toText(model) == before);
    CHECK(model.graph().find("w")->constant()->data<float>()[11] == 12.0f);
}

TEST_CASE("initializers beyond the memory of an edit hold what they were given") {
    Model model = chain();
    Edit edit(model, "test");
    edit.keepInMemory(100'000);
    std::vector<Value*> added;
    std::vector<std::weak_ptr<const std::byte>> given;
    for (int i = 0; i < 4; ++i) {
        const std::vector<float> values(20'000, static_cast<float>(i));
        Tensor tensor = Tensor::of<float>({20'000}, std::span<const float>(values));
        given.push_back(tensor.storage());
        added.push_back(edit.addInitializer("large", std::move(tensor)));
    }
    CHECK_FALSE(given[0].expired());
    CHECK(given[1].expired());
    CHECK(given[2].expired());
    for (int i = 0; i < 4; ++i) {  // the last one may still be on its way
        const auto values = added[static_cast<std::size_t>(i)]->constant()->data<float>();
        CHECK(std::all_of(values.begin(), values.end(), [&](float value) { return value == static_cast<float>(i); }));
    }
}
