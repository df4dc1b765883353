// .npy files, .safetensors and folders of ONNX test data.

#include <onnx/onnx_pb.h>
#include <catch2/catch.hpp>

#include <fstream>

#include "lib/data/dataset.h"
#include "lib/data/npy.h"
#include "lib/support/error.h"
#include "tests/support/judge.h"
#include "tests/unit/data/files.h"

namespace tcompress::data {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

std::string safetensors(const std::string& header, const std::string& data) {
    return littleEndian(header.size(), 8) + header + data;
}

TEST_CASE("npy file: one array named as the file", "[data]") {
    const test::ScratchFolder folder;
    const Tensor tensor = Tensor::of<float>({2, 2}, {1, 2, 3, 4});
    const auto bytes = tensor.bytes();
    writeBytes(folder.path() / "x.npy",
               npyHeader(tensor) + std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    const Dataset dataset = readDataset(folder.path() / "x.npy");
    CHECK(dataset.sampleCount() == 2);
    CHECK(toFloat32(dataset.arrays().at("x")) == std::vector<float>{1, 2, 3, 4});
}

TEST_CASE("safetensors: arrays and labels", "[data]") {
    const test::ScratchFolder folder;
    const fs::path path = folder.path() / "a.safetensors";
    writeBytes(
        path,
        safetensors(R"({"__metadata__":{"k":"v"},"x":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},)"
                    R"("labels":{"dtype":"I32","shape":[2],"data_offsets":[4,12]}})",
                    std::string("\x00\x3c\x00\xc0", 4) + littleEndian(3, 4) + littleEndian(9, 4)));
    const Dataset dataset = readDataset(path);
    CHECK(toFloat32(dataset.arrays().at("x")) == std::vector<float>{1, -2});
    CHECK(toInt64(*dataset.labels()) == std::vector<std::int64_t>{3, 9});
}

TEST_CASE("safetensors: what is malformed is refused", "[data]") {
    const test::ScratchFolder folder;
    const fs::path path = folder.path() / "a.safetensors";
    const auto refused = [&](const std::string& bytes, const std::string& reason) {
        writeBytes(path, bytes);
        CHECK_THROWS_WITH(readDataset(path), Contains(reason));
    };
    refused("abc", "too short");
    refused(littleEndian(1ull << 60, 8) + "{}", "claims a header");
    refused(safetensors("[1]", ""), "no JSON object");
    refused(safetensors("{", ""), "no JSON object");
    refused(safetensors(std::string(50'000, '['), ""), "no JSON object");
    const auto entry = [](const std::string& body) {
        return safetensors("{\"x\":" + body + "}", std::string(8, 'a'));
    };
    refused(entry("3"), "lacks dtype");
    refused(entry(R"({"dtype":"F12","shape":[2],"data_offsets":[0,8]})"), "type \"F12\" is not read");
    refused(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,9]})"), "outside the 8 bytes");
    refused(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "outside the 8 bytes");
    refused(entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "needs 12 bytes, 8 are given");
    refused(entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "no dimension");
    refused(entry(R"({"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]})"),
            "larger than any memory");
}

void writeTensor(const fs::path& path, const std::string& name, const std::vector<float>& values,
                 const std::vector<std::int64_t>& dims) {
    onnx::TensorProto proto;
    proto.set_name(name);
    proto.set_data_type(onnx::TensorProto::FLOAT);
    for (const std::int64_t dim : dims) proto.add_dims(dim);
    for (const float value : values) proto.add_float_data(value);
    fs::create_directories(path.parent_path());
    std::ofstream file(path, std::ios::binary);
    proto.SerializeToOstream(&file);
}

TEST_CASE("ONNX test data: sets are samples, in the order of their numbers", "[data]") {
    const test::ScratchFolder folder;
    for (const int set : {0, 2, 10}) {
        const fs::path base = folder.path() / ("test_data_set_" + std::to_string(set));
        writeTensor(base / "input_0.pb", "x", {static_cast<float>(set), 1}, {1, 2});
        writeTensor(base / "input_1.pb", "", {7}, {1});
        writeTensor(base / "output_0.pb", "y", {0}, {1});
    }
    const Dataset dataset = readDataset(folder.path());
    CHECK(dataset.sampleCount() == 3);
    CHECK(toFloat32(dataset.arrays().at("x")) == std::vector<float>{0, 1, 2, 1, 10, 1});
    CHECK(dataset.arrays().contains("input_1"));
    CHECK_FALSE(dataset.arrays().contains("y"));
    CHECK(readDataset(folder.path() / "test_data_set_2").sampleCount() == 1);

    writeTensor(folder.path() / "test_data_set_2" / "input_0.pb", "x", {1, 2, 3}, {1, 3});
    CHECK_THROWS_WITH(readDataset(folder.path()),
                      Contains("float32 [1, 2] in one set, float32 [1, 3] in another"));
    writeTensor(folder.path() / "test_data_set_2" / "input_0.pb", "z", {1, 2}, {1, 2});
    CHECK_THROWS_WITH(readDataset(folder.path()), Contains("in 2 of 3 sets"));
    writeBytes(folder.path() / "test_data_set_2" / "input_0.pb", "\xff\xff nonsense");
    CHECK_THROWS_WITH(readDataset(folder.path()), Contains("is no ONNX TensorProto"));
    writeTensor(folder.path() / "test_data_set_2" / "input_0.pb", "x", {1}, {1000000, 1000000});
    CHECK_THROWS_AS(readDataset(folder.path()), DataError);
    fs::create_directories(folder.path() / "empty");
    CHECK_THROWS_WITH(readDataset(folder.path() / "empty"), Contains("no test_data_set_*/input_*.pb"));
}

}  // namespace
}  // namespace tcompress::data
