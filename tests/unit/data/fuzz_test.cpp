// Mutated files: whatever the bytes, a reader returns a dataset or throws DataError. Run under the sanitizers
// this also shows that no byte outside the file is read.

#include <onnx/onnx_pb.h>
#include <catch2/catch.hpp>

#include "lib/data/dataset.h"
#include "lib/data/npy.h"
#include "lib/support/error.h"
#include "lib/support/log.h"
#include "lib/support/random.h"
#include "tests/support/judge.h"
#include "tests/unit/data/files.h"

namespace tcompress::data {
namespace {

namespace fs = std::filesystem;

std::string mutated(std::string bytes, Random& random) {
    const std::uint64_t changes = 1 + random.below(4);
    for (std::uint64_t i = 0; i < changes && !bytes.empty(); ++i) {
        const std::size_t at = random.below(bytes.size());
        switch (random.below(5)) {
            case 0:
                bytes[at] = static_cast<char>(random.bits());
                break;
            case 1:
                bytes[at] = static_cast<char>(bytes[at] ^ 1 << random.below(8));
                break;
            case 2:
                bytes.resize(at);
                break;
            case 3:
                bytes.insert(at, 1 + random.below(8), static_cast<char>(random.bits()));
                break;
            default:
                bytes.replace(at, std::min<std::size_t>(8, bytes.size() - at), 8, '\xff');
                break;
        }
    }
    return bytes;
}

/// Reads `count` mutations; returns how many were accepted.
int survive(const fs::path& path, const std::string& original, int count, const std::string& purpose) {
    Random random(1, purpose);
    int accepted = 0;
    for (int i = 0; i < count; ++i) {
        writeBytes(path, mutated(original, random));
        try {
            const Dataset dataset = readDataset(path);
            std::size_t sum = 0;  // touch every byte that the dataset claims to hold
            for (const auto& [name, tensor] : dataset.arrays())
                for (const std::byte b : tensor.bytes()) sum += static_cast<std::size_t>(b);
            accepted += sum != SIZE_MAX;
        } catch (const DataError&) {
        }
    }
    return accepted;
}

TEST_CASE("mutated data files never do more than throw DataError", "[data][fuzz]") {
    const test::ScratchFolder folder;
    log::configure(log::Level::off, log::Format::text);
    const Tensor ids = Tensor::of<std::int64_t>({2, 3}, {1, 2, 3, 4, 5, 6});

    writeNpz(folder.path() / "a.npz",
             {{"input_ids", ids}, {"labels", Tensor::of<std::int64_t>({2}, {0, 1})}});
    const std::string npz = readBytes(folder.path() / "a.npz");
    CHECK(survive(folder.path() / "b.npz", npz, 3000, "npz") < 3000);

    const auto bytes = ids.bytes();
    const std::string npy =
        npyHeader(ids) + std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    CHECK(survive(folder.path() / "b.npy", npy, 3000, "npy") < 3000);

    const std::string header = R"({"x":{"dtype":"I64","shape":[2,3],"data_offsets":[0,48]}})";
    const std::string safe = littleEndian(header.size(), 8) + header + npy.substr(npy.size() - 48);
    CHECK(survive(folder.path() / "b.safetensors", safe, 3000, "safetensors") < 3000);

    const fs::path set = folder.path() / "test_data_set_0";
    fs::create_directories(set);
    onnx::TensorProto proto;
    proto.set_name("x");
    proto.set_data_type(onnx::TensorProto::INT64);
    proto.add_dims(2);
    proto.add_dims(3);
    proto.set_raw_data(npy.substr(npy.size() - 48));
    Random random(1, "pb");
    int refused = 0;
    for (int i = 0; i < 2000; ++i) {
        writeBytes(set / "input_0.pb", mutated(proto.SerializeAsString(), random));
        try {
            readDataset(folder.path());
        } catch (const DataError&) {
            ++refused;
        }
    }
    CHECK(refused > 0);
    log::configure(log::Level::info, log::Format::text);
}

}  // namespace
}  // namespace tcompress::data
