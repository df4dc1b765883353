#include "lib/ir/save.h"

#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>

#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/ir/validate.h"
#include "lib/support/error.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;
using namespace tcompress::ir;
using namespace tcompress::test;
using Catch::Matchers::Contains;

namespace {

Model small() {
    return fromText(R"(<ir_version: 10, opset_import: ["" : 21]>
        g (float[2,3] x) => (float[2,4] y) <float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[2,4] before, int64[2] s>
        { before = MatMul(x, w)
          y = Relu(before) })");
}

onnx::ModelProto written(const Model& model) {
    ScratchFolder folder;
    save(model, folder.path() / "m.onnx");
    onnx::ModelProto proto;
    REQUIRE(proto.ParseFromString(readFile(folder.path() / "m.onnx")));
    return proto;
}

std::vector<std::string> describedValues(const onnx::ModelProto& proto) {
    std::vector<std::string> names;
    for (const onnx::ValueInfoProto& info : proto.graph().value_info()) names.push_back(info.name());
    return names;
}

}  // namespace

TEST_CASE("what ONNX's checker refuses is not written") {
    Model model = small();
    Edit edit(model, "test");
    edit.setOpType(model.graph().nodes()[1].get(), "NoSuchOperator");
    edit.commit();
    ScratchFolder folder;
    std::filesystem::path out = folder.path() / "m.onnx";
    writeFile(out, "old");
    CHECK_THROWS_WITH(save(model, out),
                      Contains("checker") && Contains("m.onnx") && Contains("NoSuchOperator"));
    CHECK(readFile(out) == "old");
    CHECK(entryCount(folder.path()) == 1);
    try {
        save(model, out);
    } catch (const ModelError& error) {
        CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
}

TEST_CASE("a folder that is missing is named, and nothing is left behind") {
    ScratchFolder folder;
    CHECK_THROWS_WITH(save(small(), folder.path() / "none" / "m.onnx"),
                      Contains("cannot write") && Contains("none/m.onnx") && Contains("No such file"));
    std::filesystem::create_directory(folder.path() / "taken");
    CHECK_THROWS_WITH(save(small(), folder.path() / "taken"), Contains("Is a directory"));
    CHECK(entryCount(folder.path()) == 1);
}

TEST_CASE("a disk that is full in the middle leaves the old file and no other") {
    ScratchFolder folder;
    std::filesystem::path out = folder.path() / "m.onnx";
    writeFile(out, "old");
    Model model = small();
    Edit edit(model, "test");
    edit.setConstant(model.graph().find("w"), Tensor(DType::float32, {3, 100000}));
    edit.commit();
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    rlimit limited{500000, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limited) == 0);
    std::string message;
    try {
        SaveOptions options;
        options.check = false;
        save(model, out, options);
    } catch (const Error& error) {
        message = error.what();
    }
    ::setrlimit(RLIMIT_FSIZE, &before);
    CHECK_THAT(message, Contains("cannot write " + out.string()));
    CHECK(readFile(out) == "old");
    CHECK(entryCount(folder.path()) == 1);
}

TEST_CASE("a model may be saved over the file it maps") {
    ScratchFolder folder;
    std::filesystem::path file = folder.path() / "m.onnx";
    Model model = small();
    Edit edit(model, "test");
    Tensor w(DType::float32, {3, 4000});
    for (std::size_t i = 0; i < 12000; ++i) w.mutableData<float>()[i] = static_cast<float>(i);
    edit.setConstant(model.graph().find("w"), w);
    edit.setDimension(model.graph().find("y"), 1, 4000);
    edit.commit();
    save(model, file);

    Model mapped = load(file);
    Edit rename(mapped, "test");
    rename.setOpType(mapped.graph().nodes()[1].get(), "Abs");
    rename.commit();
    save(mapped, file);
    CHECK(mapped.graph().find("w")->constant()->data<float>()[11999] == 11999.0f);
    CHECK(toFloat32(*load(file).graph().find("w")->constant()) == toFloat32(w));
}

TEST_CASE("value_info tells the truth after an edit") {
    Model model = small();
    CHECK(describedValues(written(model)) == std::vector<std::string>{"before", "s"});

    Edit edit(model, "test");
    Value* before = model.graph().find("before");
    Node* abs = edit.addNode({"Abs", "", "", {before}, 1, {}});
    edit.replaceAllUses(before, abs->output(), {abs});
    edit.setConstant(model.graph().find("w"), Tensor(DType::float32, {3, 7}));
    edit.setDimension(model.graph().find("y"), 1, 7);
    edit.commit();
    // Not known any more until inference ran again; `s` names nothing in the graph.
    CHECK(describedValues(written(model)).empty());
    inferTypes(model);
    onnx::ModelProto proto = written(model);
    CHECK(describedValues(proto) == std::vector<std::string>{"before"});
    CHECK(proto.graph().value_info(0).type().tensor_type().shape().dim(1).dim_value() == 7);
    CHECK(proto.graph().output(0).type().tensor_type().shape().dim(1).dim_value() == 7);
}

TEST_CASE("annotations go with their tensors") {
    onnx::ModelProto proto = modelToProto(small(), WeightData::embed);
    for (const char* name : {"x", "before", "nowhere"}) {
        proto.mutable_graph()->add_quantization_annotation()->set_tensor_name(name);
    }
    Model model = fromProto(proto);
    CHECK(written(model).graph().quantization_annotation_size() == 3);
    Edit edit(model, "test");
    edit.replaceInput(model.graph().nodes()[1].get(), 0,
                      edit.addInitializer("c", Tensor(DType::float32, {2, 4})));
    edit.commit();
    onnx::ModelProto after = written(model);
    REQUIRE(after.graph().quantization_annotation_size() == 1);
    CHECK(after.graph().quantization_annotation(0).tensor_name() == "x");
}

TEST_CASE("passes that changed something are named in the file, each once and in order") {
    Model model = small();
    for (const char* pass : {"prune", "prune", "quantize"}) {
        Edit edit(model, pass);
        edit.setConstant(model.graph().find("w"), Tensor(DType::float32, {3, 4}));
        edit.setAttribute(model.graph().nodes()[1].get(), {"note", std::int64_t{1}});
        edit.commit();
    }
    Edit remove(model, "quantize");
    remove.removeAttribute(model.graph().nodes()[1].get(), "note");
    remove.commit();
    onnx::ModelProto proto = written(model);
    REQUIRE(proto.graph().node(1).metadata_props_size() == 1);
    CHECK(proto.graph().node(1).metadata_props(0).value() == "prune,quantize");
    CHECK(proto.graph().initializer(0).metadata_props(0).value() == "prune,quantize");
    CHECK(proto.graph().node(0).metadata_props_size() == 0);
}

TEST_CASE("an initializer that is replaced keeps its doc string") {
    onnx::ModelProto proto = modelToProto(small(), WeightData::embed);
    proto.mutable_graph()->mutable_initializer(0)->set_doc_string("the weight");
    Model model = fromProto(proto);
    Edit edit(model, "test");
    edit.setConstant(model.graph().find("w"), Tensor(DType::float32, {3, 4}));
    edit.commit();
    CHECK(written(model).graph().initializer(0).doc_string() == "the weight");
}

TEST_CASE("text goes back and forth") {
    Model model = small();
    std::string text = toText(model);
    CHECK(toText(fromText(text)) == text);
    CHECK_THROWS_WITH(fromText("this is not a model"), Contains("cannot parse the model's text"));
}

TEST_CASE("shared data count once") {
    Model model = small();
    CHECK(model.constantBytes() == 48);
    Edit edit(model, "test");
    Tensor data(DType::float32, {3, 4});
    edit.setConstant(model.graph().find("w"), data);
    edit.replaceInput(model.graph().nodes()[1].get(), 0, edit.addInitializer("again", data));
    edit.commit();
    CHECK(model.constantBytes() == 48);
}
