#include <catch2/catch.hpp>

#include <zip.h>

#include "lib/data/dataset.h"
#include "lib/data/npy.h"
#include "lib/support/error.h"
#include "lib/support/random.h"
#include "tests/support/judge.h"
#include "tests/unit/data/files.h"

namespace tcompress::data {
namespace {

using Catch::Contains;
namespace fs = std::filesystem;

const fs::path zooData = fs::path(TCOMPRESS_TEST_DATA) / "zoo";

/// A compressed archive, as numpy.savez_compressed writes it.
void writeCompressed(const fs::path& path, const std::vector<std::pair<std::string, std::string>>& entries) {
    int error = 0;
    zip_t* archive = zip_open(path.c_str(), ZIP_CREATE | ZIP_TRUNCATE, &error);
    REQUIRE(archive != nullptr);
    for (const auto& [name, bytes] : entries)
        REQUIRE(zip_file_add(archive, name.c_str(), zip_source_buffer(archive, bytes.data(), bytes.size(), 0),
                             0) >= 0);
    REQUIRE(zip_close(archive) == 0);
}

std::string zeros(const std::string& shape, std::size_t bytes) {
    return npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + "}",
                   std::string(bytes, '\0'));
}

TEST_CASE("npz: labelled data of the zoo", "[data]") {
    const Dataset sentiment = readDataset(zooData / "sentiment3_test.npz");
    CHECK(sentiment.sampleCount() == 600);
    REQUIRE(sentiment.labels());
    CHECK(sentiment.labels()->shape() == Shape{600});
    CHECK(sentiment.arrays().at("input_ids").shape() == Shape{600, 64});
    CHECK(sentiment.arrays().at("input_ids").data<std::int64_t>()[0] == 101);  // [CLS]
    CHECK_FALSE(readDataset(zooData / "sentences_eval.npz").labels());
    CHECK(readDataset(zooData / "digits_test.npz").arrays().at("pixel_values").dtype() == DType::float32);
}

TEST_CASE("npz: rows and head share the bytes", "[data]") {
    const Dataset digits = readDataset(zooData / "digits_test.npz");
    const Tensor& all = digits.arrays().at("pixel_values");
    const auto rows = digits.rows(3, 5);
    CHECK(rows.at("pixel_values").shape() == Shape{2, 1, 8, 8});
    CHECK(rows.at("pixel_values").data<float>().data() == all.data<float>().data() + 3 * 64);
    CHECK_FALSE(rows.contains("labels"));
    const Dataset head = digits.head(7);
    CHECK(head.sampleCount() == 7);
    CHECK(head.labels()->data<std::int64_t>()[6] == digits.labels()->data<std::int64_t>()[6]);
    CHECK(digits.head(1000).sampleCount() == 450);
}

TEST_CASE("npz: what is written is read back, and is the same bytes each time", "[data]") {
    const test::ScratchFolder folder;
    const std::vector<std::pair<std::string, Tensor>> arrays{
        {"input_ids", Tensor::of<std::int64_t>({2, 3}, {1, 2, 3, 4, 5, 6})},
        {"x", Tensor::of<float>({2}, {0.5f, -1})},
        {"flags", Tensor::of<bool>({2, 1}, {true, false})},
        {"labels", Tensor::of<std::int64_t>({2}, {0, 1})}};
    writeNpz(folder.path() / "a.npz", arrays);
    const Dataset dataset = readDataset(folder.path() / "a.npz");
    CHECK(toInt64(dataset.arrays().at("input_ids")) == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});
    CHECK(toFloat32(dataset.arrays().at("x")) == std::vector<float>{0.5f, -1});
    CHECK(dataset.arrays().at("flags").dtype() == DType::boolean);
    CHECK(toInt64(*dataset.labels()) == std::vector<std::int64_t>{0, 1});

    const std::string first = readBytes(folder.path() / "a.npz");
    setenv("TZ", "America/New_York", 1);
    tzset();
    writeNpz(folder.path() / "b.npz", arrays);
    unsetenv("TZ");
    CHECK(readBytes(folder.path() / "b.npz") == first);
    CHECK_THROWS_WITH(writeNpz(folder.path() / "c.npz", {{"x", arrays[0].second}, {"x", arrays[0].second}}),
                      Contains("two arrays named 'x'"));
    CHECK_FALSE(fs::exists(folder.path() / "c.npz"));
}

TEST_CASE("npz: compressed entries, and entries that are no arrays", "[data]") {
    const test::ScratchFolder folder;
    writeCompressed(folder.path() / "a.npz", {{"x.npy", zeros("(100, 10)", 4000)}, {"readme.txt", "hello"}});
    CHECK(readDataset(folder.path() / "a.npz").arrays().size() == 1);
    CHECK(readDataset(folder.path() / "a.npz").sampleCount() == 100);
}

TEST_CASE("npz: sizes that lie are refused before memory is taken", "[data]") {
    const test::ScratchFolder folder;
    const fs::path path = folder.path() / "a.npz";
    // The header asks for 4 TB, the entry holds 4 bytes.
    writeCompressed(path, {{"x.npy", zeros("(1000000000000,)", 4)}});
    CHECK_THROWS_WITH(readDataset(path), Contains("'x.npy'") && Contains("needs 4000000000"));

    // The archive's directory declares another size than its data have (offset 24 of the central header).
    writeNpz(path, {{"x", Tensor(DType::float32, {4})}});
    std::string bytes = readBytes(path);
    const std::size_t central = bytes.find("PK\x01\x02");
    REQUIRE(central != std::string::npos);
    const std::size_t zip64 = central + 46 + 5 + 4;  // name "x.npy", tag and length of the zip64 field
    for (const std::string& size : {littleEndian(1ull << 40, 8), littleEndian(3, 8)}) {
        std::string lying = bytes;
        lying.replace(zip64, 8, size);
        writeBytes(path, lying);
        CHECK_THROWS_AS(readDataset(path), DataError);
    }
    // One changed byte of data is noticed by the checksum.
    std::string damaged = bytes;
    damaged[central - 1] = 1;
    writeBytes(path, damaged);
    CHECK_THROWS_AS(readDataset(path), DataError);
}

TEST_CASE("npz: files that do not make a dataset", "[data]") {
    const test::ScratchFolder folder;
    const fs::path path = folder.path() / "a.npz";
    CHECK_THROWS_WITH(readDataset(folder.path() / "none.npz"), Contains("no such file"));
    writeBytes(path, "PK nonsense");
    CHECK_THROWS_WITH(readDataset(path), Contains("cannot be read as .npz"));
    writeBytes(folder.path() / "a.csv", "1,2");
    CHECK_THROWS_WITH(readDataset(folder.path() / "a.csv"), Contains("format '.csv' is not known"));
    writeNpz(path, {{"a", Tensor(DType::float32, {4})}, {"b", Tensor(DType::float32, {5})}});
    CHECK_THROWS_WITH(readDataset(path), Contains("'b' has 5 samples, 'a' has 4"));
    writeNpz(path, {{"a", Tensor(DType::float32, {})}});
    CHECK_THROWS_WITH(readDataset(path), Contains("'a' is a scalar"));
    writeNpz(path, {{"a", Tensor(DType::float32, {0, 3})}});
    CHECK_THROWS_WITH(readDataset(path), Contains("no samples"));
    writeNpz(path, {});
    CHECK_THROWS_WITH(readDataset(path), Contains("holds no arrays; give one for each input"));
    writeNpz(path, {{"labels", Tensor(DType::int64, {4})}});
    CHECK_THROWS_WITH(readDataset(path), Contains("holds no arrays but 'labels'"));
}

}  // namespace
}  // namespace tcompress::data
