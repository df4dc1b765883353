// A model file is untrusted: every kind of damage is one ModelError of one line that names the file.

#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>

#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/support/error.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;
using namespace tcompress::ir;
using namespace tcompress::test;
using Catch::Matchers::Contains;

namespace {

onnx::ModelProto sound() {
    onnx::ModelProto proto = modelToProto(fromText(R"(<ir_version: 10, opset_import: ["" : 21]>
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
        { a = Add(x, w)
          y = Relu(a) })"),
                                          WeightData::embed);
    onnx::TensorProto& large = *proto.mutable_graph()->add_initializer();
    large.set_name("large");
    large.set_data_type(onnx::TensorProto::FLOAT);
    large.add_dims(1000);
    large.set_raw_data(std::string(4000, '\0'));
    return proto;
}

/// The message for a file with these bytes, after checking its form.
std::string complaint(const std::string& bytes) {
    ScratchFolder folder;
    std::filesystem::path file = folder.path() / "bad.onnx";
    writeFile(file, bytes);
    std::string message;
    try {
        load(file);
    } catch (const ModelError& error) {
        message = error.what();
    }
    CAPTURE(message);
    CHECK(message.starts_with("cannot load " + file.string() + ": "));
    CHECK(message.find('\n') == std::string::npos);
    return message;
}

std::string complaint(const std::function<void(onnx::GraphProto&)>& damage) {
    onnx::ModelProto proto = sound();
    damage(*proto.mutable_graph());
    return complaint(proto.SerializeAsString());
}

using G = onnx::GraphProto&;

}  // namespace

TEST_CASE("the undamaged model loads") {
    Model model = fromProto(sound());
    CHECK(model.graph().nodes().size() == 2);
}

TEST_CASE("files that are no model") {
    CHECK_THAT(complaint(""), Contains("empty"));
    CHECK_THAT(complaint("This is a text file and not a model.\n"), Contains("not an ONNX model"));
    CHECK_THAT(complaint(std::string(1000, '\0')), Contains("not an ONNX model"));
    CHECK_THAT(complaint(std::string(1000, '\xff')), Contains("not an ONNX model"));
    CHECK_THAT(complaint(std::string("\x08\x08", 2)), Contains("no graph"));
    ScratchFolder folder;
    CHECK_THROWS_WITH(load(folder.path() / "none.onnx"), Contains("none.onnx") && Contains("No such file"));
    CHECK_THROWS_WITH(load(folder.path()), Contains("it is a folder"));
}

TEST_CASE("a file cut short anywhere is refused") {
    std::string bytes = sound().SerializeAsString();
    for (std::size_t size :
         {bytes.size() - 1, bytes.size() - 100, bytes.size() / 2, std::size_t{100}, std::size_t{20}}) {
        CHECK_THAT(complaint(bytes.substr(0, size)), Contains("cut short"));
    }
}

TEST_CASE("lengths that lie are refused") {
    // Field 7 (graph) with a length of 2^40.
    CHECK_THAT(complaint(std::string("\x08\x0a\x3a\x80\x80\x80\x80\x80\x20", 9)),
               Contains("field 7 needs 1099511627776 bytes and only 0 are left"));
    // A length of 2^64 - 1, which wraps when it is added to.
    CHECK_THAT(complaint(std::string("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11)),
               Contains("only 0 are left"));
    CHECK_THAT(complaint(std::string("\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12)),
               Contains("more than ten bytes"));
}

TEST_CASE("tensors whose sizes do not fit") {
    auto large = [](G g) -> onnx::TensorProto& { return *g.mutable_initializer(1); };
    CHECK_THAT(complaint([&](G g) { large(g).set_dims(0, 1001); }),
               Contains("'large' of float32 [1001] needs 4004 bytes and has 4000 in raw_data"));
    CHECK_THAT(complaint([&](G g) { large(g).set_dims(0, 999); }), Contains("needs 3996 bytes and has 4000"));
    CHECK_THAT(complaint([&](G g) { large(g).set_dims(0, -1000); }), Contains("negative dimension -1000"));
    CHECK_THAT(complaint([&](G g) {
                   large(g).set_dims(0, std::int64_t{1} << 40);
                   large(g).add_dims(std::int64_t{1} << 40);
               }),
               Contains("too many elements"));
    CHECK_THAT(complaint([&](G g) {  // 2^64 elements: the product wraps to 0
                   large(g).set_dims(0, std::int64_t{1} << 32);
                   large(g).add_dims(std::int64_t{1} << 32);
               }),
               Contains("too many elements"));
    CHECK_THAT(complaint([&](G g) { large(g).clear_raw_data(); }), Contains("needs 4000 bytes and has 0"));
    CHECK_THAT(complaint([](G g) { g.mutable_initializer(0)->add_float_data(3); }),
               Contains("needs 8 bytes and has 12"));
    CHECK_THAT(complaint([](G g) { g.mutable_initializer(0)->set_data_type(onnx::TensorProto::INT32); }),
               Contains("needs 2 entries in its typed data and has 0"));
    CHECK_THAT(complaint([&](G g) {
                   large(g).clear_raw_data();
                   large(g).set_data_type(onnx::TensorProto::INT64);
                   for (int i = 0; i < 2000; ++i) large(g).add_int64_data(i);
               }),
               Contains("needs 1000 entries in its typed data and has 2000"));
}

TEST_CASE("graphs that do not hang together") {
    CHECK_THAT(complaint([](G g) { g.mutable_node(0)->set_input(1, "nothing"); }),
               Contains("'a' (Add) reads 'nothing', which nothing produces"));
    CHECK_THAT(complaint([](G g) { g.mutable_output(0)->set_name("nothing"); }),
               Contains("graph output 'nothing' is produced by nothing"));
    CHECK_THAT(complaint([](G g) { g.mutable_node(1)->set_output(0, "a"); }),
               Contains("'a'") && Contains("already taken"));
    CHECK_THAT(complaint([](G g) { g.mutable_initializer(1)->set_name("w"); }),
               Contains("'w'") && Contains("already taken"));
    CHECK_THAT(complaint([](G g) { g.mutable_node(0)->set_output(0, "x"); }),
               Contains("'x'") && Contains("already taken"));
    CHECK_THAT(complaint([](G g) { g.mutable_node(0)->set_output(0, "w"); }),
               Contains("'w'") && Contains("already taken"));
    CHECK_THAT(complaint([](G g) { *g.add_input() = g.input(0); }),
               Contains("'x'") && Contains("already taken"));
    CHECK_THAT(complaint([](G g) { g.mutable_node(0)->set_input(0, "y"); }),
               Contains("depends on its own output"));
    CHECK_THAT(complaint([](G g) { g.mutable_node(0)->set_input(0, "a"); }),
               Contains("depends on its own output"));
    CHECK_THAT(complaint([](G g) { g.mutable_node(0)->clear_op_type(); }), Contains("no operator"));
    CHECK_THAT(complaint([](G g) { g.mutable_initializer(0)->clear_name(); }),
               Contains("an initializer has no name"));
    CHECK_THAT(complaint([](G g) { g.mutable_input(0)->clear_name(); }),
               Contains("a graph input has no name"));
}

TEST_CASE("a sub-graph that reads what nothing produces") {
    CHECK_THAT(complaint([](G g) {
                   onnx::NodeProto& node = *g.add_node();
                   node.set_op_type("If");
                   node.add_input("x");
                   node.add_output("z");
                   onnx::AttributeProto& attribute = *node.add_attribute();
                   attribute.set_name("then_branch");
                   onnx::NodeProto& inner = *attribute.mutable_g()->add_node();
                   inner.set_op_type("Relu");
                   inner.add_input("nothing");
                   inner.add_output("r");
               }),
               Contains("'z' (If) reads 'nothing'"));
}

TEST_CASE("a node that lacks what its operator needs") {
    CHECK_THAT(complaint([](G graph) { graph.mutable_node(0)->mutable_input()->RemoveLast(); }),
               Contains("(Add) has no input 'B', which the operator needs"));
    CHECK_THAT(complaint([](G graph) { graph.mutable_node(0)->set_input(0, ""); }),
               Contains("(Add) has no input 'A', which the operator needs"));
    CHECK_THAT(complaint([](G graph) {
                   onnx::NodeProto& node = *graph.add_node();
                   node.set_op_type("Neg");
                   node.add_input("x");
                   node.add_output("");
               }),
               Contains("(Neg) has no output 'Y', which the operator needs"));
    CHECK_THAT(complaint([](G graph) {
                   onnx::NodeProto& node = *graph.add_node();
                   node.set_op_type("If");
                   node.add_input("x");
                   node.add_output("z");
                   onnx::AttributeProto& branch = *node.add_attribute();
                   branch.set_name("then_branch");
                   branch.set_type(onnx::AttributeProto::GRAPH);
                   branch.mutable_g()->add_node()->set_op_type("Neg");
               }),
               Contains("node 'Neg' (Neg) has no input 'X', which the operator needs"));
    // Of an operator that the model defines itself, the model knows.
    onnx::ModelProto proto = sound();
    onnx::FunctionProto& function = *proto.add_functions();
    function.set_name("Add");
    function.add_input("x");
    function.add_output("y");
    proto.mutable_graph()->mutable_node(0)->mutable_input()->RemoveLast();
    CHECK_NOTHROW(fromProto(proto));
}

TEST_CASE("attributes that lead the shape inference of the onnx library astray") {
    const std::string refused = GENERATE("y = LayerNormalization <axis = 2147483648> (x, x)",
                                         "y = GatherND <batch_dims = -7> (x, i)", "y = Softmax <axis = -65537> (x)",
                                         "y = Einsum <equation = \"i?\"> (x)", "y = Einsum <equation = \"i-\"> (x)",
                                         "y = Einsum <equation = \"....\"> (x)");
    CAPTURE(refused);
    const auto text = [](const std::string& node) {
        return "<ir_version: 10, opset_import: [\"\" : 18]> g (float[3, 3] x, int64[1, 1] i) => (y) { " + node + " }";
    };
    CHECK_THROWS_WITH(fromText(text(refused)), Contains("no tensor has") || Contains("no equation"));
    const std::string taken = GENERATE("y = Einsum <equation = \"i j -> j i\"> (x)",
                                       "y = Einsum <equation = \"i...\"> (x)", "y = Softmax <axis = 7> (x)");
    CHECK_NOTHROW(fromText(text(taken)));
}

TEST_CASE("functions that call themselves, or each other without measure") {
    onnx::ModelProto proto = sound();
    onnx::OperatorSetIdProto& own = *proto.add_opset_import();
    own.set_domain("own");
    own.set_version(1);
    // F0 is a Relu; each of the others calls the one before twice.
    for (int k = 0; k < 40; ++k) {
        onnx::FunctionProto& function = *proto.add_functions();
        function.set_domain("own");
        function.set_name("F" + std::to_string(k));
        function.add_input("x");
        function.add_output("y");
        for (int call = 0; call < (k == 0 ? 1 : 2); ++call) {
            onnx::NodeProto& node = *function.add_node();
            node.set_op_type(k == 0 ? "Relu" : "F" + std::to_string(k - 1));
            if (k > 0) node.set_domain("own");
            node.add_input(call == 0 ? "x" : "t");
            node.add_output(call == 0 && k > 0 ? "t" : "y");
        }
        for (const onnx::OperatorSetIdProto& opset : proto.opset_import()) *function.add_opset_import() = opset;
    }
    onnx::NodeProto& call = *proto.mutable_graph()->mutable_node(1);
    call.set_domain("own");
    call.set_op_type("F8");
    CHECK_NOTHROW(fromProto(proto));
    call.set_op_type("F39");
    CHECK_THAT(complaint(proto.SerializeAsString()), Contains("they stand for over 4194304 nodes"));
    proto.mutable_functions(0)->mutable_node(0)->set_domain("own");
    proto.mutable_functions(0)->mutable_node(0)->set_op_type("F1");
    call.set_op_type("F0");
    CHECK_THAT(complaint(proto.SerializeAsString()), Contains("calls itself"));
}

TEST_CASE("vectors without end are not followed element by element") {
    const Model model = fromText(R"(<ir_version: 10, opset_import: ["" : 18]>
        g (int64[1099511627776] x, float[n, m] z) => (y, s)
        <int64[1] at = {5}, int64[2] two = {0, 1}>
        { y = Gather(x, at)
          shape = Shape(z)
          turned = Gather(shape, two)
          s = Reshape(z, turned) })");
    CHECK(model.graph().find("y")->shape() == Shape{1});
    CHECK(model.graph().find("s")->type()->tensor_type().shape().dim(1).dim_param() == "m");
}

TEST_CASE("outputs that an attribute counts and nobody made take no memory") {
    const std::string split =
        R"(<ir_version: 10, opset_import: ["" : 18]> g (float[4] x) => (a, b, c) { c = Relu(x) a, b = Split<num_outputs = 2>(x) })";
    CHECK(fromText(split).graph().find("a")->shape() == Shape{2});
    // 2^46 entries would be more than any machine has; fewer would be taken and filled.
    const std::string many = "70368744177664";
    std::string hostile = split;
    hostile.replace(hostile.find("= 2>") + 2, 1, many);
    const Model model = fromText(hostile);
    CHECK_FALSE(model.graph().find("a")->shape());
    // Inference that had tried would have given up as a whole.
    CHECK(model.graph().find("c")->shape() == Shape{4});
}

TEST_CASE("versions that are not supported") {
    auto withVersions = [](std::int64_t ir, std::int64_t opset) {
        onnx::ModelProto proto = sound();
        proto.set_ir_version(ir);
        proto.mutable_opset_import(0)->set_version(opset);
        return complaint(proto.SerializeAsString());
    };
    CHECK_THAT(withVersions(2, 21), Contains("ir_version is 2"));
    CHECK_THAT(withVersions(1000, 21), Contains("ir_version is 1000"));
    CHECK_THAT(withVersions(10, 1000), Contains("opset is 1000"));
    CHECK_THAT(withVersions(10, -5), Contains("opset is -5"));
    onnx::ModelProto proto = sound();
    proto.clear_opset_import();
    CHECK_THAT(complaint(proto.SerializeAsString()), Contains("imports no operator set"));
}

TEST_CASE("nesting without end is refused") {
    // Sub-graphs in sub-graphs: graph (7) > node (1) > attribute (5) > graph (6) > node (1) > …
    std::string message;
    for (int depth = 0; depth < 2000; ++depth) {
        for (int field : {6, 5, 1}) {
            std::string header(1, static_cast<char>(field << 3 | 2));
            for (std::size_t size = message.size(); true; size >>= 7) {
                bool isLast = size < 0x80;
                header.push_back(static_cast<char>(isLast ? size : size | 0x80));
                if (isLast) break;
            }
            message = header + message;
        }
    }
    onnx::ModelProto proto = sound();
    std::string bytes = proto.SerializeAsString();
    // Appended as a second `graph`, which protobuf merges with the first; its outermost field is a
    // sub-graph's attribute.
    std::string header(1, '\x3a');
    std::string body = message;
    for (std::size_t size = body.size(); true; size >>= 7) {
        bool isLast = size < 0x80;
        header.push_back(static_cast<char>(isLast ? size : size | 0x80));
        if (isLast) break;
    }
    CHECK_THAT(complaint(bytes + header + body), Contains("nested too deeply"));
}

TEST_CASE("damaged sparse initializers") {
    auto sparse = [](const std::function<void(onnx::SparseTensorProto&)>& damage) {
        return complaint([&](G g) {
            onnx::SparseTensorProto& tensor = *g.add_sparse_initializer();
            tensor.mutable_values()->set_name("s");
            tensor.mutable_values()->set_data_type(onnx::TensorProto::FLOAT);
            tensor.mutable_values()->add_dims(1);
            tensor.mutable_values()->add_float_data(5);
            tensor.mutable_indices()->set_data_type(onnx::TensorProto::INT64);
            tensor.mutable_indices()->add_dims(1);
            tensor.mutable_indices()->add_int64_data(1);
            tensor.add_dims(4);
            damage(tensor);
        });
    };
    CHECK_THAT(sparse([](auto& t) { t.mutable_indices()->set_int64_data(0, 4); }),
               Contains("index 0 lies outside [4]"));
    CHECK_THAT(sparse([](auto& t) { t.mutable_indices()->set_int64_data(0, -1); }), Contains("lies outside"));
    CHECK_THAT(sparse([](auto& t) { t.mutable_indices()->set_dims(0, 2); }), Contains("needs 2 entries"));
    CHECK_THAT(sparse([](auto& t) { t.add_dims(-2); }), Contains("negative dimension"));
    CHECK_THAT(sparse([](auto& t) { t.mutable_indices()->set_data_type(onnx::TensorProto::INT32); }),
               Contains("'s'"));
}
