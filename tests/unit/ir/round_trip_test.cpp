// What goes through the IR unedited comes out byte for byte as it was, however the constants are encoded.

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;
using namespace tcompress::ir;
using namespace tcompress::test;

namespace {

std::vector<std::filesystem::path> modelFiles() {
    std::vector<std::filesystem::path> folders{TCOMPRESS_TEST_DATA "/models"};
    if (const char* zoo = std::getenv("TCOMPRESS_ZOO")) folders.emplace_back(zoo);
    std::vector<std::filesystem::path> files;
    for (const std::filesystem::path& folder : folders) {
        for (const auto& entry : std::filesystem::directory_iterator(folder)) {
            if (entry.path().extension() == ".onnx") files.push_back(entry.path());
        }
    }
    return files;
}

onnx::ModelProto base() {
    return modelToProto(fromText(R"(<ir_version: 10, opset_import: ["" : 21], producer_name: "test">
        g (float[2] x) => (float[2] y) { y = Identity(x) })"),
                        WeightData::embed);
}

onnx::TensorProto& addTensor(onnx::ModelProto& model, const std::string& name, DType dtype,
                             std::initializer_list<std::int64_t> dims) {
    onnx::TensorProto& tensor = *model.mutable_graph()->add_initializer();
    for (std::int64_t size : dims) tensor.add_dims(size);
    tensor.set_data_type(static_cast<std::int32_t>(dtype));
    tensor.set_name(name);
    return tensor;
}

}  // namespace

TEST_CASE("real models come out byte-identical") {
    std::vector<std::filesystem::path> files = modelFiles();
    REQUIRE(files.size() >= 8);
    ScratchFolder folder;
    std::filesystem::path copy = folder.path() / "copy.onnx";
    for (const std::filesystem::path& file : files) {
        CAPTURE(file);
        Model model = load(file);
        validateStructure(model);
        SaveResult result = save(model, copy);
        CHECK(result.fileBytes == std::filesystem::file_size(file));
        CHECK(readFile(copy) == readFile(file));
        save(model.clone(), copy);
        CHECK(readFile(copy) == readFile(file));
        std::string text = readFile(file);
        onnx::ModelProto parsed;
        REQUIRE(parsed.ParseFromString(text));
        CHECK(modelToProto(model, WeightData::embed).SerializeAsString() == parsed.SerializeAsString());
    }
}

TEST_CASE("constants in every encoding are decoded, and written as they came") {
    onnx::ModelProto proto = base();
    // Each once short (stays in the skeleton) and once long (is cut from it).
    for (std::int64_t count : {3, 2000}) {
        auto size = static_cast<std::size_t>(count);
        std::string suffix = "_" + std::to_string(count);
        auto fill = [&](auto* field, auto value) {
            for (std::size_t i = 0; i < size; ++i)
                field->Add(static_cast<std::decay_t<decltype(field->Get(0))>>(value(i)));
        };
        auto index = [](std::size_t i) { return static_cast<std::int64_t>(i % 100); };
        fill(addTensor(proto, "f32" + suffix, DType::float32, {count}).mutable_float_data(), index);
        fill(addTensor(proto, "f64" + suffix, DType::float64, {count}).mutable_double_data(), index);
        fill(addTensor(proto, "i64" + suffix, DType::int64, {count}).mutable_int64_data(),
             [&](std::size_t i) { return -index(i); });
        fill(addTensor(proto, "u64" + suffix, DType::uint64, {count}).mutable_uint64_data(), index);
        fill(addTensor(proto, "u32" + suffix, DType::uint32, {count}).mutable_uint64_data(), index);
        fill(addTensor(proto, "i32" + suffix, DType::int32, {count}).mutable_int32_data(),
             [&](std::size_t i) { return -index(i); });
        fill(addTensor(proto, "i8" + suffix, DType::int8, {count}).mutable_int32_data(),
             [&](std::size_t i) { return -index(i); });
        fill(addTensor(proto, "u16" + suffix, DType::uint16, {count}).mutable_int32_data(), index);
        fill(addTensor(proto, "f16" + suffix, DType::float16, {count}).mutable_int32_data(),
             [&](std::size_t i) { return toHalf(static_cast<float>(index(i))).bits; });
        fill(addTensor(proto, "bf16" + suffix, DType::bfloat16, {count}).mutable_int32_data(),
             [&](std::size_t i) { return toBFloat16(static_cast<float>(index(i))).bits; });
        std::string raw;
        for (std::size_t i = 0; i < size; ++i) raw.push_back(static_cast<char>(index(i)));
        addTensor(proto, "raw" + suffix, DType::uint8, {count}).set_raw_data(raw);
    }
    std::string bytes = proto.SerializeAsString();

    ScratchFolder folder;
    std::filesystem::path file = folder.path() / "model.onnx";
    writeFile(file, bytes);
    Model model = load(file);
    for (const Value* value : model.graph().initializers()) {
        CAPTURE(value->name());
        REQUIRE(value->constant() != nullptr);
        std::vector<std::int64_t> values = toInt64(*value->constant());
        bool isNegative = value->name().starts_with("i");
        bool same = true;
        for (std::size_t i = 0; i < values.size(); ++i) {
            same = same && values[i] == (isNegative ? -1 : 1) * static_cast<std::int64_t>(i % 100);
        }
        CHECK(same);
    }
    std::filesystem::path copy = folder.path() / "copy.onnx";
    save(model, copy);
    CHECK(readFile(copy) == bytes);
    CHECK(modelToProto(model, WeightData::embed).SerializeAsString() == bytes);
    CHECK(modelToProto(model, WeightData::skeleton).ByteSizeLong() < 8000);
}

TEST_CASE("types below a byte are read one byte or four bytes an entry") {
    onnx::ModelProto proto = base();
    // [1, -2, 3, -4, 5]: bytes 0xe1, 0xc3, 0x05.
    onnx::TensorProto& bytewise = addTensor(proto, "bytewise", DType::int4, {5});
    for (int value : {0xe1, 0xc3, 0x05}) bytewise.add_int32_data(value);
    addTensor(proto, "wordwise", DType::int4, {5}).add_int32_data(0x05c3e1);
    addTensor(proto, "raw", DType::int4, {5}).set_raw_data("\xe1\xc3\x05");
    Model model = fromProto(proto);
    for (const Value* value : model.graph().initializers()) {
        CAPTURE(value->name());
        CHECK(toInt64(*value->constant()) == std::vector<std::int64_t>{1, -2, 3, -4, 5});
    }
    CHECK(modelToProto(model, WeightData::embed).SerializeAsString() == proto.SerializeAsString());
}

TEST_CASE("sparse initializers are seen dense and written sparse") {
    onnx::ModelProto proto = base();
    onnx::SparseTensorProto& linear = *proto.mutable_graph()->add_sparse_initializer();
    linear.mutable_values()->set_name("linear");
    linear.mutable_values()->set_data_type(onnx::TensorProto::FLOAT);
    linear.mutable_values()->add_dims(2);
    linear.mutable_values()->add_float_data(5);
    linear.mutable_values()->add_float_data(7);
    linear.mutable_indices()->set_data_type(onnx::TensorProto::INT64);
    linear.mutable_indices()->add_dims(2);
    linear.mutable_indices()->add_int64_data(1);
    linear.mutable_indices()->add_int64_data(5);
    linear.add_dims(2);
    linear.add_dims(3);
    onnx::SparseTensorProto byAxis = linear;
    byAxis.mutable_values()->set_name("by_axis");
    byAxis.mutable_indices()->clear_dims();
    byAxis.mutable_indices()->clear_int64_data();
    for (int size : {2, 2}) byAxis.mutable_indices()->add_dims(size);
    for (int index : {0, 1, 1, 2}) byAxis.mutable_indices()->add_int64_data(index);
    *proto.mutable_graph()->add_sparse_initializer() = byAxis;

    Model model = fromProto(proto);
    for (const char* name : {"linear", "by_axis"}) {
        const Tensor* data = model.graph().find(name)->constant();
        REQUIRE(data != nullptr);
        CHECK(data->shape() == Shape{2, 3});
        CHECK(toFloat32(*data) == std::vector<float>{0, 5, 0, 0, 0, 7});
    }
    CHECK(modelToProto(model, WeightData::embed).SerializeAsString() == proto.SerializeAsString());
}

TEST_CASE("what is not understood is kept") {
    onnx::ModelProto proto = base();
    addTensor(proto, "text", DType::string, {2}).add_string_data("hello");
    proto.mutable_graph()->mutable_initializer(0)->add_string_data("world");
    addTensor(proto, "future", static_cast<DType>(28), {4}).set_raw_data("abc");
    addTensor(proto, "large_future", static_cast<DType>(28), {4000}).set_raw_data(std::string(3000, 'z'));
    // Unknown fields of several messages, as a later ONNX might have them.
    for (auto* fields : {proto.GetReflection()->MutableUnknownFields(&proto),
                         proto.graph().GetReflection()->MutableUnknownFields(proto.mutable_graph()),
                         proto.graph().node(0).GetReflection()->MutableUnknownFields(
                             proto.mutable_graph()->mutable_node(0))}) {
        fields->AddVarint(4000, 7);
        fields->AddLengthDelimited(4001, "later");
    }
    auto& annotation = *proto.mutable_graph()->add_quantization_annotation();
    annotation.set_tensor_name("x");
    proto.mutable_graph()->set_doc_string("a graph");
    proto.mutable_graph()->mutable_input(0)->set_doc_string("an input");
    auto& dimension = *proto.mutable_graph()
                           ->mutable_input(0)
                           ->mutable_type()
                           ->mutable_tensor_type()
                           ->mutable_shape()
                           ->mutable_dim(0);
    dimension.set_denotation("DATA_BATCH");
    onnx::FunctionProto& function = *proto.add_functions();
    function.set_name("f");
    function.set_domain("local");

    std::string bytes = proto.SerializeAsString();
    ScratchFolder folder;
    writeFile(folder.path() / "model.onnx", bytes);
    Model model = load(folder.path() / "model.onnx");
    validateStructure(model);
    for (const char* name : {"text", "future", "large_future"}) {
        CHECK(model.graph().find(name)->constant() == nullptr);
    }
    SaveOptions options;
    options.check = false;  // ONNX's checker wants more of a function
    save(model, folder.path() / "copy.onnx", options);
    CHECK(readFile(folder.path() / "copy.onnx") == bytes);
}

TEST_CASE("large tensors of Constant nodes and of other attributes survive") {
    onnx::ModelProto proto = base();
    std::string raw(4000, '\1');
    for (const char* opType : {"Constant", "ConstantOfShape"}) {
        onnx::NodeProto& node = *proto.mutable_graph()->add_node();
        node.set_op_type(opType);
        if (node.op_type() == "ConstantOfShape") node.add_input("x");
        node.add_output(opType);
        node.set_doc_string("before the attributes in the text, behind them in the file");
        onnx::AttributeProto& other = *node.add_attribute();
        other.set_name("note");
        other.set_type(onnx::AttributeProto::STRING);
        other.set_s("x");
        onnx::AttributeProto& attribute = *node.add_attribute();
        attribute.set_name("value");
        attribute.set_type(onnx::AttributeProto::TENSOR);
        attribute.mutable_t()->set_data_type(onnx::TensorProto::FLOAT);
        attribute.mutable_t()->add_dims(1000);
        attribute.mutable_t()->set_raw_data(raw);
    }
    std::string bytes = proto.SerializeAsString();
    ScratchFolder folder;
    writeFile(folder.path() / "model.onnx", bytes);
    Model model = load(folder.path() / "model.onnx");
    CHECK(model.graph().find("Constant")->constant()->sizeBytes() == 4000);
    CHECK(model.graph().find("ConstantOfShape")->constant() == nullptr);
    CHECK(model.graph().find("ConstantOfShape")->producer()->attribute("value")->t().raw_data() == raw);
    SaveOptions options;
    options.check = false;  // of a ConstantOfShape without input
    save(model, folder.path() / "copy.onnx", options);
    CHECK(readFile(folder.path() / "copy.onnx") == bytes);
}

TEST_CASE("an initializer that is also an input is a default from IR version 4 on, and a constant before") {
    onnx::ModelProto proto = modelToProto(
        fromText(
            R"(<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
                    { y = Add(x, w) })"),
        WeightData::embed);
    onnx::ValueInfoProto& input = *proto.mutable_graph()->add_input();
    input = proto.graph().input(0);
    input.set_name("w");
    for (std::int64_t irVersion : {3, 8}) {
        CAPTURE(irVersion);
        proto.set_ir_version(irVersion);
        Model model = fromProto(proto);
        validateStructure(model);
        const Value* w = model.graph().find("w");
        CHECK((w->constant() != nullptr) == (irVersion == 3));
        REQUIRE(w->initialValue() != nullptr);
        CHECK(toFloat32(*w->initialValue()) == std::vector<float>{1, 2});
        CHECK(model.graph().inputs().size() == 1);
        CHECK(w->isGraphInput());
        CHECK(modelToProto(model, WeightData::embed).SerializeAsString() == proto.SerializeAsString());
    }
}

TEST_CASE("nodes that stand in the wrong order are sorted and otherwise left in place") {
    onnx::ModelProto proto = modelToProto(fromText(R"(<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y)
        { a = Relu(x)
          b = Neg(a)
          c = Abs(x)
          y = Add(b, c) })"),
                                          WeightData::embed);
    proto.mutable_graph()->mutable_node()->SwapElements(0, 1);
    Model model = fromProto(proto);
    validateStructure(model);
    std::vector<std::string> types;
    for (const auto& node : model.graph().nodes()) types.push_back(node->opType());
    CHECK(types == std::vector<std::string>{"Relu", "Neg", "Abs", "Add"});
}

TEST_CASE("a long chain in reverse order does not exhaust the stack") {
    onnx::ModelProto proto = base();
    proto.mutable_graph()->clear_node();
    constexpr int length = 100000;
    for (int i = length; i-- > 0;) {
        onnx::NodeProto& node = *proto.mutable_graph()->add_node();
        node.set_op_type("Identity");
        node.add_input(i == 0 ? "x" : "v" + std::to_string(i - 1));
        node.add_output(i == length - 1 ? "y" : "v" + std::to_string(i));
    }
    Model model = fromProto(proto);
    CHECK(model.graph().nodes().front()->input(0)->name() == "x");
}
