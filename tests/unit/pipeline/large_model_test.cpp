// A model whose weights do not fit into one protobuf message goes through a whole run and comes out as a
// small model file with its data beside it. Its 17 tables of 128 MiB overlap in one file of their common
// size, each a page further on: 2.28 GB to write, and little to read.

#include <fmt/core.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/measure/machine.h"
#include "lib/pipeline/pipeline.h"
#include "passes/registry.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"

using namespace tcompress;

namespace {

namespace fs = std::filesystem;

constexpr std::int64_t tables = 17, rows = 32'768, columns = 1024;
constexpr std::int64_t rowBytes = columns * sizeof(float);  // a page
constexpr std::uint64_t totalBytes = std::uint64_t{tables} * rows * rowBytes;
static_assert(totalBytes > (std::uint64_t{1} << 31));

/// A sanitizer keeps a shadow of every byte that is read, which is no memory of ours.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool isSanitized = true;
#else
constexpr bool isSanitized = false;
#endif

/// Memory is faster than a disk, where there is enough of it.
fs::path roomyFolder() {
    std::ifstream meminfo("/proc/meminfo");
    std::string key;
    std::uint64_t kibibytes = 0, available = 0;
    while (meminfo >> key >> kibibytes) {
        if (key == "MemAvailable:") available = kibibytes << 10;
        meminfo.ignore(80, '\n');
    }
    std::error_code none;
    const bool inMemory =
        available > 2 * totalBytes && fs::space("/dev/shm", none).available > totalBytes * 5 / 4;
    return inMemory && !none ? fs::path("/dev/shm") : fs::temp_directory_path();
}

/// Row r of the file begins with r; table t begins at row t.
void writeTables(const fs::path& file) {
    std::ofstream stream(file, std::ios::binary);
    std::vector<float> row(columns);
    for (std::int64_t r = 0; r < rows + tables - 1; ++r) {
        row[0] = static_cast<float>(r);
        stream.write(reinterpret_cast<const char*>(row.data()), rowBytes);
    }
}

void writeModel(const fs::path& file) {
    std::string constants, lookUps, found;
    for (std::int64_t t = 0; t < tables; ++t) {
        constants += fmt::format("{}float[1,1] table{} = {{0}}", t == 0 ? "" : ", ", t);
        lookUps += fmt::format("row{0} = Gather(table{0}, ids)\n", t);
        found += fmt::format("{}row{}", t == 0 ? "" : ", ", t);
    }
    const std::string text = fmt::format(
        "<ir_version: 10, opset_import: [\"\" : 17]>\n"
        "g (int64[n] ids) => (float[m,1024] y) <{}> {{ {} y = Concat <axis = 0> ({}) }}",
        constants, lookUps, found);
    onnx::ModelProto proto = ir::modelToProto(ir::fromText(text), ir::WeightData::embed);
    for (std::int64_t t = 0; t < tables; ++t) {
        onnx::TensorProto& table = *proto.mutable_graph()->mutable_initializer(static_cast<int>(t));
        table.clear_float_data();
        table.set_dims(0, rows);
        table.set_dims(1, columns);
        table.set_data_location(onnx::TensorProto::EXTERNAL);
        const std::pair<const char*, std::string> entries[] = {{"location", "tables.bin"},
                                                               {"offset", std::to_string(t * rowBytes)},
                                                               {"length", std::to_string(rows * rowBytes)}};
        for (const auto& [key, value] : entries) {
            onnx::StringStringEntryProto& entry = *table.add_external_data();
            entry.set_key(key);
            entry.set_value(value);
        }
    }
    test::writeFile(file, proto.SerializeAsString());
}

/// The first number of row `id` of each table.
std::vector<float> lookUp(const fs::path& file, std::int64_t id) {
    Tensor ids(DType::int64, {1});
    ids.mutableData<std::int64_t>()[0] = id;
    const Tensor found = exec::Executor(ir::load(file)).run({{"ids", ids}}).at(0);
    std::vector<float> first;
    for (std::int64_t t = 0; t < tables; ++t)
        first.push_back(found.data<float>()[static_cast<std::size_t>(t * columns)]);
    return first;
}

std::vector<float> expected(std::int64_t id) {
    std::vector<float> rowNumbers(tables);
    std::iota(rowNumbers.begin(), rowNumbers.end(), static_cast<float>(id));
    return rowNumbers;
}

}  // namespace

TEST_CASE("2.28 GB of weights go through a run and come out as external data") {
    const test::ScratchFolder scratch(roomyFolder());
    const fs::path folder = scratch.path();
    if (fs::space(folder).available < totalBytes * 5 / 4) {
        WARN("skipped: less than 2.9 GB are free in " << folder.parent_path());
        return;
    }
    writeTables(folder / "tables.bin");
    writeModel(folder / "model.onnx");

    pipeline::ConfigSources sources;
    sources.oneLiners = {"cleanup"};
    sources.overrides = {{"/model", fmt::format("\"{}\"", (folder / "model.onnx").string()), "MODEL"},
                         {"/output", fmt::format("\"{}\"", (folder / "out.onnx").string()), "--output"}};
    pipeline::run(pipeline::resolveConfig(sources, passes::registry()), {});

    CHECK(fs::file_size(folder / "out.onnx") < 10'000);
    CHECK(fs::file_size(folder / "out.onnx.data") == totalBytes);
    CHECK(test::entryCount(folder) == 4);
    fs::remove(folder / "tables.bin");
    CHECK(lookUp(folder / "out.onnx", 0) == expected(0));
    CHECK(lookUp(folder / "out.onnx", rows - 1) == expected(rows - 1));
    CHECK((isSanitized || measure::peakMemoryBytes() < totalBytes / 4));
}
