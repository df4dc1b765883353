#include <catch2/catch.hpp>
#include <filesystem>

#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "lib/support/error.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;
using namespace tcompress::ir;
using namespace tcompress::test;
using Catch::Matchers::Contains;

namespace {

/// A model of one weight `w` of 300 float32 that is external as the entries say.
std::string externalModel(const std::vector<std::pair<std::string, std::string>>& entries,
                          std::int64_t size = 300) {
    onnx::ModelProto proto = modelToProto(fromText(R"(<ir_version: 10, opset_import: ["" : 21]>
        g (float[n] x) => (float[n] y) <float[1] w = {0}> { y = Add(x, w) })"),
                                          WeightData::embed);
    onnx::TensorProto& w = *proto.mutable_graph()->mutable_initializer(0);
    w.clear_float_data();
    w.set_dims(0, size);
    w.set_data_location(onnx::TensorProto::EXTERNAL);
    for (const auto& [key, value] : entries) {
        auto& entry = *w.add_external_data();
        entry.set_key(key);
        entry.set_value(value);
    }
    return proto.SerializeAsString();
}

struct Place {
    ScratchFolder folder;
    std::filesystem::path model = folder.path() / "inner" / "model.onnx";
    Place() {
        std::filesystem::create_directory(folder.path() / "inner");
        std::string numbers;
        for (int i = 0; i < 400; ++i) {
            auto value = static_cast<float>(i);
            numbers.append(reinterpret_cast<const char*>(&value), sizeof(value));
        }
        writeFile(folder.path() / "inner" / "weights.bin", numbers);
        writeFile(folder.path() / "secret.bin", numbers);
    }
    Model open(const std::vector<std::pair<std::string, std::string>>& entries,
               std::int64_t size = 300) const {
        writeFile(model, externalModel(entries, size));
        return load(model);
    }
};

}  // namespace

TEST_CASE("external data are mapped where they lie") {
    Place place;
    Model model = place.open({{"location", "weights.bin"}, {"offset", "40"}, {"length", "1200"}});
    const Tensor& w = *model.graph().find("w")->constant();
    CHECK(w.shape() == Shape{300});
    CHECK(w.data<float>()[0] == 10.0f);
    CHECK(w.data<float>()[299] == 309.0f);
    CHECK(place.open({{"location", "weights.bin"}}).graph().find("w")->constant()->data<float>()[1] == 1.0f);
    CHECK(place.open({{"location", "./weights.bin"}, {"checksum", "x"}}, 3)
              .graph()
              .find("w")
              ->constant()
              ->size() == 3);
    checkFile(place.model);
}

TEST_CASE("external data may not be outside the model's folder") {
    Place place;
    auto open = [&](const std::string& location) { return place.open({{"location", location}}); };
    CHECK_THROWS_WITH(open("../secret.bin"), Contains("'../secret.bin'") && Contains("'..'"));
    CHECK_THROWS_WITH(open("sub/../../secret.bin"), Contains("'..'"));
    CHECK_THROWS_WITH(open((place.folder.path() / "secret.bin").string()), Contains("is absolute"));
    CHECK_THROWS_WITH(open(""), Contains("is empty"));
    CHECK_THROWS_WITH(open(std::string("weights.bin\0x", 13)), Contains("zero byte"));
    CHECK_THROWS_WITH(open("none.bin"), Contains("none.bin") && Contains("No such file"));
    CHECK_THROWS_WITH(open("."), Contains("external data path '.'"));

    std::filesystem::create_symlink("../secret.bin", place.folder.path() / "inner" / "link.bin");
    CHECK_THROWS_WITH(open("link.bin"), Contains("symbolic link"));
    std::filesystem::create_directory_symlink("..", place.folder.path() / "inner" / "up");
    CHECK_THROWS_WITH(open("up/secret.bin"), Contains("symbolic link"));
    // Near miss: a link that stays inside.
    std::filesystem::create_symlink("weights.bin", place.folder.path() / "inner" / "alias.bin");
    CHECK(open("alias.bin").graph().find("w")->constant()->data<float>()[2] == 2.0f);
}

TEST_CASE("offsets and lengths are checked against the file") {
    Place place;
    auto open = [&](const std::string& offset, const std::string& length) {
        return place.open({{"location", "weights.bin"}, {"offset", offset}, {"length", length}});
    };
    CHECK_THROWS_WITH(open("404", "1200"), Contains("needs bytes 404 to 1604") && Contains("which has 1600"));
    CHECK_THROWS_WITH(open("18446744073709551615", "1200"), Contains("which has 1600"));
    CHECK_THROWS_WITH(open("0", "1196"), Contains("needs 1200 bytes and has 1196"));
    CHECK_THROWS_WITH(open("0", "1204"), Contains("needs 1200 bytes and has 1204"));
    CHECK_THROWS_WITH(open("-4", "1200"), Contains("offset '-4', not a number"));
    CHECK_THROWS_WITH(open("0", "many"), Contains("length 'many', not a number"));
    CHECK_THROWS_WITH(open("", "1200"), Contains("offset '', not a number"));
    CHECK_NOTHROW(open("400", "1200"));
}

TEST_CASE("a model with external data is saved as one file, and on request with external data again") {
    Place place;
    Model model = place.open({{"location", "weights.bin"}, {"offset", "40"}, {"length", "1200"}});
    std::filesystem::path out = place.folder.path() / "out.onnx";

    SaveResult single = save(model, out);
    CHECK(single.files == std::vector{out});
    CHECK(single.fileBytes == std::filesystem::file_size(out));
    CHECK(toFloat32(*load(out).graph().find("w")->constant()) ==
          toFloat32(*model.graph().find("w")->constant()));
    std::string singleBytes = readFile(out);

    SaveOptions options;
    options.externalData = ExternalData::always;
    SaveResult two = save(model, out, options);
    std::filesystem::path data = place.folder.path() / "out.onnx.data";
    CHECK(two.files == std::vector{out, data});
    CHECK(two.fileBytes == std::filesystem::file_size(out) + std::filesystem::file_size(data));
    CHECK(std::filesystem::file_size(data) == 1200);
    Model again = load(out);
    checkFile(out);
    CHECK(toFloat32(*again.graph().find("w")->constant()) == toFloat32(*model.graph().find("w")->constant()));
    CHECK(again.envelope().SerializeAsString() == model.envelope().SerializeAsString());

    // Back into one file, over the file that the model maps: byte for byte what it was.
    save(again, out);
    CHECK(readFile(out) == singleBytes);
}

TEST_CASE("each external tensor begins at a page, in file order, and writing twice gives the same bytes") {
    Model model = fromText(R"(<ir_version: 10, opset_import: ["" : 21]>
        g (float[n] x) => (float[n] y) <float[1] a = {0}, float[1] b = {0}, float[1] small = {1}>
        { s = Add(a, b)
          t = Add(s, small)
          y = Add(x, t) })");
    Edit edit(model, "test");
    Tensor a(DType::float32, {257});
    Tensor b(DType::float32, {5000});
    a.mutableData<float>()[0] = 1;
    b.mutableData<float>()[4999] = 2;
    edit.setConstant(model.graph().find("a"), a);
    edit.setConstant(model.graph().find("b"), b);
    edit.commit();

    ScratchFolder folder;
    SaveOptions options;
    options.externalData = ExternalData::always;
    std::filesystem::path out = folder.path() / "m.onnx";
    save(model, out, options);
    onnx::ModelProto proto;
    REQUIRE(proto.ParseFromString(readFile(out)));
    auto entry = [&](int i, const std::string& key) {
        for (const auto& e : proto.graph().initializer(i).external_data()) {
            if (e.key() == key) return e.value();
        }
        return std::string();
    };
    CHECK(entry(0, "location") == "m.onnx.data");
    CHECK(entry(0, "offset") == "0");
    CHECK(entry(0, "length") == "1028");
    CHECK(entry(1, "offset") == "4096");
    CHECK(entry(1, "length") == "20000");
    CHECK(proto.graph().initializer(2).data_location() == onnx::TensorProto::DEFAULT);
    std::string firstModel = readFile(out);
    std::string firstData = readFile(folder.path() / "m.onnx.data");
    save(load(out), out, options);
    CHECK(readFile(out) == firstModel);
    CHECK(readFile(folder.path() / "m.onnx.data") == firstData);
    CHECK(entryCount(folder.path()) == 2);
}
