// Latency, energy and the machine's description.

#include <catch2/catch.hpp>
#include <chrono>
#include <fstream>
#include <thread>

#include "lib/ir/load.h"
#include "lib/measure/energy.h"
#include "lib/measure/latency.h"
#include "lib/measure/machine.h"
#include "tests/support/judge.h"

namespace tcompress::measure {
namespace {

namespace fs = std::filesystem;

TEST_CASE("latency: runs alternate, warm-up is not counted, the ratio is of pairs", "[measure]") {
    std::string order;
    const auto wait = [&](char name, int milliseconds) {
        return [&order, name, milliseconds] {
            order += name;
            std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
        };
    };
    const LatencyComparison result = timeInTurns(wait('a', 4), wait('b', 2), {4, 2, 3, 100, 1});
    CHECK(order == "abababbaabba");
    CHECK(result.original.runs == 4);
    CHECK(result.original.warmupRuns == 2);
    CHECK(result.compressed.batch == 3);
    CHECK(result.original.medianSeconds >= 0.004);
    CHECK(result.speedup > 1);
    CHECK(result.speedupLow <= result.speedup);
    CHECK(result.speedupHigh >= result.speedup);
    CHECK(result.original.p95Seconds >= result.original.medianSeconds);
    CHECK(timeInTurns(wait('a', 0), nullptr, {3, 0}).compressed.runs == 0);
}

void writeCounter(const fs::path& folder, const std::string& name, std::uint64_t energy,
                  std::uint64_t range) {
    fs::create_directories(folder);
    std::ofstream(folder / "name") << name << "\n";
    std::ofstream(folder / "energy_uj") << energy << "\n";
    std::ofstream(folder / "max_energy_range_uj") << range << "\n";
}

TEST_CASE("RAPL: packages are added up, counters wrap around", "[measure]") {
    const test::ScratchFolder root;
    CHECK_FALSE(RaplCounters::open(root.path()));
    CHECK_FALSE(RaplCounters::open(root.path() / "none"));
    writeCounter(root.path() / "intel-rapl:0", "package-0", 900, 1000);
    writeCounter(root.path() / "intel-rapl:1", "package-1", 5'000'000, 262'143'328'850);
    writeCounter(root.path() / "intel-rapl:0:0", "core", 1, 1000);
    writeCounter(root.path() / "intel-rapl:2", "psys", 1, 1000);
    const auto counters = RaplCounters::open(root.path());
    REQUIRE(counters);
    const auto before = counters->read();
    CHECK(before == std::vector<std::uint64_t>{900, 5'000'000});
    writeCounter(root.path() / "intel-rapl:0", "package-0", 100, 1000);
    writeCounter(root.path() / "intel-rapl:1", "package-1", 7'000'000, 262'143'328'850);
    CHECK(counters->joules(before, counters->read()) == Approx((200 + 2'000'000) * 1e-6));
}

TEST_CASE("RAPL: energy of an inference", "[measure]") {
    const test::ScratchFolder root;
    std::uint64_t energy = 0;
    const auto spend = [&] {
        writeCounter(root.path() / "intel-rapl:0", "package-0", energy += 3000, 1'000'000'000);
    };
    spend();
    const auto counters = RaplCounters::open(root.path());
    REQUIRE(counters);
    const Energy result = measuredEnergy(*counters, spend, 2, 480, 0.0);
    CHECK(result.measured);
    CHECK(result.joulesPerInference == Approx(3000e-6 / 2));
    CHECK(result.gramsCo2e == Approx(1000 * 1500e-6 / 3.6e6 * 480));
    CHECK(result.method.find("measured: RAPL") == 0);
}

TEST_CASE("modelled energy by hand", "[measure]") {
    analysis::ModelCost cost;
    cost.sequenceLength = 64;
    cost.macsByType = {{"float32", 1000}, {"int8", 500}};
    const Energy energy = modelledEnergy(cost, 4000, 100);
    CHECK_FALSE(energy.measured);
    CHECK(energy.arithmeticJoules == Approx((1000 * 4.6 + 500 * 0.3) * 1e-12));
    CHECK(energy.memoryJoules == Approx(1000 * 640e-12));
    CHECK(energy.joulesPerInference == Approx(energy.arithmeticJoules + energy.memoryJoules));
    CHECK(energy.gramsCo2e == Approx(1000 * energy.joulesPerInference / 3.6e6 * 100));
    CHECK(energy.method.find("modelled, not measured") == 0);
    CHECK(energy.method.find("length 64") != std::string::npos);
}

TEST_CASE("of a gathered table only the rows are read, of a tied one everything", "[measure]") {
    const ir::Model model = ir::fromText(R"(<ir_version: 8, opset_import: ["" : 17]>
m (int64[n, t] ids) => (float[n, t, 2] y) <float[4, 2] table = {1, 2, 3, 4, 5, 6, 7, 8}, float[2, 2] w = {1, 2, 3, 4}> {
  x = Gather (table, ids)
  y = MatMul (x, w)
})");
    CHECK(weightBytesRead(model, 3) == 3 * 8 + 16);
    CHECK(weightBytesRead(model, 100) == 4 * 8 + 16);
    const ir::Model tied = ir::fromText(R"(<ir_version: 8, opset_import: ["" : 17]>
m (int64[n, t] ids) => (float[n, t, 4] y) <float[4, 2] table = {1, 2, 3, 4, 5, 6, 7, 8}> {
  x = Gather (table, ids)
  back = Transpose (table)
  y = MatMul (x, back)
})");
    CHECK(weightBytesRead(tied, 1) == 32);
}

TEST_CASE("the tables of a fused embedding are read by rows", "[measure]") {
    const ir::Model model = ir::fromText(R"(<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
m (int32[n, t] ids, int32[n, t] segments) => (float[n, t, 2] y)
<float[4, 2] words = {1, 2, 3, 4, 5, 6, 7, 8}, float[3, 2] positions = {1, 2, 3, 4, 5, 6},
 float[2, 2] kinds = {1, 2, 3, 4}, float[2] gamma = {1, 1}, float[2] beta = {0, 0}> {
  y, m = com.microsoft.EmbedLayerNormalization (ids, segments, words, positions, kinds, gamma, beta)
})");
    CHECK(weightBytesRead(model, 1) == 3 * 8 + 2 * 8);
    CHECK(weightBytesRead(model, 3) == (3 + 3 + 2) * 8 + 2 * 8);
}

TEST_CASE("cpuinfo is read", "[measure]") {
    const Machine machine = parseCpuInfo(
        "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu "
        "avx2 fma avx512_vnni avx5\n\n"
        "processor\t: 1\nmodel name\t: Some CPU @ 2 GHz\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu\n\n"
        "processor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\n");
    CHECK(machine.cpuModel == "Some CPU @ 2 GHz");
    CHECK(machine.cpuFeatures == std::vector<std::string>{"avx2", "fma", "avx512_vnni"});
    CHECK(machine.physicalCores == 2);
    CHECK(parseCpuInfo("").cpuModel.empty());
    const Machine here = describeMachine();
    CHECK(here.logicalCores >= 1);
    CHECK(here.memoryBytes > 1 << 20);
    CHECK(peakMemoryBytes() > 1 << 20);
}

}  // namespace
}  // namespace tcompress::measure
