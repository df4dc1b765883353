// The ONNX project's own node tests: folders with model.onnx and test_data_set_*/{input,output}_*.pb, as the onnx package
// ships them below backend/test/data/node. TCOMPRESS_ONNX_CASES names such a folder; without it there is nothing to run.
// Cases that do not pass stand in skips.txt with the reason; one of them that passes has to be struck off.

#include <catch2/catch.hpp>

#include <fmt/core.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "lib/exec/attributes.h"
#include "lib/exec/executor.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"

namespace {

using namespace tcompress;
namespace fs = std::filesystem;

/// ONNX Runtime's own tolerances for these cases.
constexpr double kRelative = 1e-3;
constexpr double kAbsolute = 1e-5;

std::map<std::string, std::string> readSkips(const fs::path& path) {
    std::map<std::string, std::string> skips;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        const std::size_t colon = line.find(':');
        if (line.empty() || line[0] == '#' || colon == std::string::npos) continue;
        skips[line.substr(0, colon)] = line.substr(colon + 1);
    }
    return skips;
}

Tensor readTensor(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    onnx::TensorProto proto;
    if (!proto.ParseFromIstream(&file)) throw DataError(fmt::format("{} is no tensor", path.string()));
    return exec::tensorFromProto(proto);
}

bool near(double found, double expected) {
    if (std::isnan(expected)) return std::isnan(found);
    if (std::isinf(expected)) return found == expected;
    return std::abs(found - expected) <= kAbsolute + kRelative * std::abs(expected);
}

/// Empty when equal.
std::string difference(const Tensor& found, const Tensor& expected) {
    if (found.dtype() != expected.dtype()) return fmt::format("type {}, expected {}", name(found.dtype()), name(expected.dtype()));
    if (found.shape() != expected.shape()) return fmt::format("shape {}, expected {}", toString(found.shape()), toString(expected.shape()));
    const Tensor a = convert(found, DType::float64);
    const Tensor b = convert(expected, DType::float64);
    for (std::int64_t i = 0; i < a.size(); ++i) {
        const double x = a.data<double>()[static_cast<std::size_t>(i)];
        const double y = b.data<double>()[static_cast<std::size_t>(i)];
        if (!near(x, y)) return fmt::format("element {} is {}, expected {}", i, x, y);
    }
    return {};
}

/// Why the case fails; empty when it passes.
std::string runCase(const fs::path& folder, exec::Fusion fusion) {
    try {
        const ir::Model model = ir::load(folder / "model.onnx");
        exec::Executor executor(model, {fusion});
        for (const fs::directory_entry& set : fs::directory_iterator(folder)) {
            if (!set.is_directory()) continue;
            exec::Feeds feeds;
            for (std::size_t i = 0; i < model.graph().inputs().size(); ++i) {
                feeds.emplace(model.graph().inputs()[i]->name(), readTensor(set.path() / fmt::format("input_{}.pb", i)));
            }
            const std::vector<Tensor> outputs = executor.run(feeds);
            for (std::size_t i = 0; i < outputs.size(); ++i) {
                const std::string found = difference(outputs[i], readTensor(set.path() / fmt::format("output_{}.pb", i)));
                if (!found.empty()) return fmt::format("output {}: {}", i, found);
            }
        }
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

TEST_CASE("The ONNX backend node tests pass") {
    const char* folder = std::getenv("TCOMPRESS_ONNX_CASES");
    if (!folder) {
        WARN("TCOMPRESS_ONNX_CASES is not set: no case was run");
        return;
    }
    const auto skips = readSkips(fs::path(TCOMPRESS_TEST_DATA).parent_path() / "backend" / "skips.txt");
    std::set<fs::path> cases;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) cases.insert(entry.path());
    int passed = 0;
    std::ofstream report;
    if (const char* path = std::getenv("TCOMPRESS_ONNX_REPORT")) report.open(path);
    for (const fs::path& path : cases) {
        const std::string caseName = path.filename().string();
        std::string failure = runCase(path, exec::Fusion::none);
        if (failure.empty()) {
            failure = runCase(path, exec::Fusion::full);
            if (!failure.empty()) failure = "with fusion: " + failure;
        }
        passed += failure.empty();
        if (report) report << caseName << ": " << (failure.empty() ? "passed" : failure.substr(0, failure.find('\n'))) << "\n";
        const auto skip = skips.find(caseName);
        if (skip == skips.end()) {
            INFO(caseName << ": " << failure);
            CHECK(failure.empty());
        } else {
            INFO(caseName << " passes and stands in skips.txt");
            CHECK_FALSE(failure.empty());
        }
    }
    WARN(fmt::format("{} of {} cases passed, {} skipped", passed, cases.size(), skips.size()));
}

}  // namespace
