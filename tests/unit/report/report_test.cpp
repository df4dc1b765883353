#include "lib/report/report.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lib/report/text.h"
#include "tests/unit/report/schema_check.h"

namespace tcompress::report {
namespace {

using Catch::Contains;
using nlohmann::json;

/// A report with everything in it.
Report fullReport() {
    Report report;
    report.toolVersion = "0.1.0";
    report.command = "tcompress run a.onnx -p quantize:method=dynamic -o b.onnx";
    report.configJson = R"({"version": 1, "passes": []})";
    report.seed = 42;
    report.threads = 2;
    report.seconds = 1.5;
    report.peakMemoryBytes = 200'000'000;
    analysis::ModelCost cost;
    cost.parameters = 17'240'000;
    cost.bytes = 68'960'000;
    cost.nonZero = 17'000'000;
    cost.macs = 680'000'000;
    cost.sequenceLength = 128;
    cost.byRole = {{"embedding", {11'720'000, 46'880'000, 11'700'000, 0}},
                   {"ffn", {3'540'000, 14'160'000, 3'540'000, 453'000'000}}};
    cost.macsByType = {{"float32", 680'000'000}};
    ModelRecord original;
    original.file = {"a.onnx", std::string(64, 'a'), 69'060'623};
    original.externalData = {{"a.onnx.data", std::string(64, 'b'), 1000}};
    original.constantBytes = 68'990'000;
    original.nodes = 180;
    original.opset = 17;
    original.cost = cost;
    report.original = original;
    ModelRecord compressed = original;
    compressed.file = {"b.onnx", "", 17'500'000};
    compressed.externalData.clear();
    cost.bytes = 17'240'000;
    cost.byRole["ffn"].bytes = 3'540'000;
    cost.macsByType = {{"int8", 680'000'000}};
    compressed.cost = cost;
    report.compressed = compressed;
    report.data = {{"e.npz", std::string(64, 'c'), 5000}};
    PassRow pass;
    pass.type = "quantize";
    pass.method = "dynamic";
    pass.optionsJson = R"({"bits": 8, "targets": [], "granularity": "per-channel", "seed": null})";
    pass.seconds = 0.25;
    pass.before = Totals{68'960'000, 17'240'000, 680'000'000};
    pass.after = Totals{17'240'000, 17'240'000, 680'000'000};
    pass.changed = {{"/layer.0/MatMul", "float32 [384, 1536] to int8", 0.01}, {"a|b", "c", {}}};
    pass.skipped = {{"x", "no constant weight"}, {"y", "no constant weight"}, {"z", "too small"}};
    pass.notes = {"opset raised from 11 to 17"};
    report.passes = {pass};
    measure::Evaluation evaluation;
    evaluation.samples = 600;
    evaluation.dataOrigin = "e.npz";
    evaluation.batchSize = 16;
    evaluation.originalTask =
        measure::TaskMetrics{"logits", {{"accuracy", {0.88, 0.8517, 0.9035, 600}}}, {true}, {0.1f}};
    evaluation.compressedTask =
        measure::TaskMetrics{"logits", {{"accuracy", {0.87, 0.84, 0.895, 600}}}, {true}, {0.1f}};
    evaluation.pairedCounts = measure::PairedCounts{520, 8, 2, 70, 0.109};
    evaluation.pairedDifference = {{"accuracy", {-0.01, -0.02, 0.0, 600}}};
    measure::Fidelity fidelity;
    fidelity.cosine = {0.996, 0.995, 0.997, 600};
    fidelity.klDivergence = {0.01, 0.008, 0.012, 600};
    fidelity.top1Agreement = {0.98, 0.965, 0.989, 600};
    fidelity.sqnrDecibels = std::numeric_limits<double>::infinity();
    evaluation.fidelity = {{"logits", fidelity}};
    measure::LatencyComparison latency;
    latency.original = {0.010, 0.012, 30, 5, 1, 2};
    latency.compressed = {0.005, 0.006, 30, 5, 1, 2};
    latency.speedup = 2;
    latency.speedupLow = 1.9;
    latency.speedupHigh = 2.1;
    evaluation.latency = latency;
    evaluation.originalEnergy =
        measure::Energy{0.0141, false, "modelled, not measured: …", 0.00188, 480, 0.003, 0.011};
    evaluation.compressedEnergy = measure::Energy{0.0035, true, "measured: RAPL", 0.0004, 480, 0, 0};
    evaluation.notes = {"output 'x' was not compared"};
    report.evaluation = evaluation;
    report.constraints = {{"max_size_ratio", 0.25, 0.253, ConstraintOutcome::missed, "bytes"},
                          {"min_speedup", 1.5, {}, ConstraintOutcome::notMeasured, ""}};
    report.machine = {"Some CPU", {"avx2"}, 2, 1, 24'000'000'000, "Linux 6.1 x86_64"};
    report.warnings = {"the output is slower"};
    return report;
}

TEST_CASE("report: JSON is what the schema says", "[report]") {
    const json schema = json::parse(jsonSchema());
    const json full = json::parse(toJson(fullReport()));
    CHECK(schemaProblems(schema, full) == std::vector<std::string>{});
    CHECK(schemaProblems(schema, json::parse(toJson(Report{}))) == std::vector<std::string>{});

    // The checker sees what is wrong.
    json broken = full;
    broken.erase("threads");
    broken["passes"][0]["seconds"] = "long";
    broken["constraints"][0]["outcome"] = "perhaps";
    broken["evaluation"]["fidelity"]["logits"]["novel"] = 1;
    CHECK(schemaProblems(schema, broken).size() == 4);
}

TEST_CASE("report: the published schema is the generated one", "[report]") {
    std::ifstream file(std::string(TCOMPRESS_TEST_DATA) + "/../../configs/schema/report.schema.json");
    std::stringstream text;
    text << file.rdbuf();
    INFO("write it anew: tcompress schema report > configs/schema/report.schema.json");
    CHECK((text.str() == jsonSchema()));
}

TEST_CASE("report: the figures in the JSON", "[report]") {
    const json report = json::parse(toJson(fullReport()));
    CHECK(report["schema_version"] == 1);
    CHECK(report["ratios"]["file_bytes"].get<double>() == Approx(17'500'000.0 / 69'060'623));
    CHECK(report["ratios"]["parameters"] == 1.0);
    CHECK(report["original"]["cost"]["by_role"]["ffn"]["macs"] == 453'000'000);
    CHECK(report["passes"][0]["options"]["bits"] == 8);
    CHECK(report["passes"][0]["changed"][0]["error"] == 0.01);
    CHECK_FALSE(report["passes"][0]["changed"][1].contains("error"));
    CHECK(report["evaluation"]["compressed_task"]["metrics"]["accuracy"]["low"] == 0.84);
    CHECK(report["evaluation"]["fidelity"]["logits"]["sqnr_db"].is_null());
    CHECK_FALSE(report["evaluation"]["fidelity"]["logits"].contains("neighbour_agreement"));
    CHECK(report["evaluation"]["original_energy"]["measured"] == false);
    CHECK(report["evaluation"]["original_energy"].contains("memory_joules"));
    CHECK_FALSE(report["evaluation"]["compressed_energy"].contains("memory_joules"));
    CHECK(report["constraints"][1]["outcome"] == "not_measured");
    CHECK_FALSE(report["constraints"][1].contains("actual"));
    CHECK(report["config"]["version"] == 1);
}

TEST_CASE("report: names that are no UTF-8 do not stop it", "[report]") {
    Report report;
    report.warnings = {"node '\xff\xfe'"};
    CHECK_NOTHROW(json::parse(toJson(report)));
}

TEST_CASE("report: Markdown says what a reader looks for", "[report]") {
    const std::string text = toMarkdown(fullReport());
    CHECK_THAT(text, Contains("size: 69.06 MB to 17.50 MB (25.3 %)"));
    CHECK_THAT(text, Contains("accuracy: 0.8800 to 0.8700 (paired difference -0.0100 [-0.0200, +0.0000])"));
    CHECK_THAT(text, Contains("speed: 2.00 times the original's"));
    CHECK_THAT(text, Contains("**warning:** the output is slower"));
    CHECK_THAT(text, Contains("| max_size_ratio | 0.25 | 0.253 | **missed** | bytes |"));
    CHECK_THAT(text, Contains("| ffn | 14.16 MB | 3.54 MB | 25.0 % | 3.54 M |"));
    CHECK_THAT(text, Contains("Both right 520, only the original 8, only the compressed 2, both wrong 70"));
    CHECK_THAT(text, Contains("| original | 14.10 mJ | modelled |"));
    CHECK_THAT(text, Contains("| compressed | 3.50 mJ | measured |"));
    CHECK_THAT(
        text,
        Contains(
            "| 1 | quantize / dynamic | bits=8, granularity=per-channel | 2 | 3 | 68.96 MB to 17.24 MB |"));
    CHECK_THAT(text, Contains("- no constant weight (2): `x`, `y`\n"));
    CHECK_THAT(text, Contains("| `a\\|b` | c | - |"));
    CHECK_THAT(text, Contains("`" + std::string(64, 'a') + "`"));
    CHECK_THAT(text, Contains("Some CPU"));
    CHECK_THAT(text, Contains("seed 42"));
}

TEST_CASE("report: what was not measured is not in the Markdown", "[report]") {
    Report report = fullReport();
    report.evaluation.reset();
    report.constraints.clear();
    const std::string text = toMarkdown(report);
    for (const char* absent :
         {"## Accuracy", "## Fidelity", "## Latency", "## Energy", "## Constraints", "accuracy"})
        CHECK_THAT(text, !Contains(absent));
    CHECK_NOTHROW(toMarkdown(Report{}));
    report.compressed.reset();
    CHECK_THAT(toMarkdown(report), Contains("| file | 69.06 MB |"));
}

TEST_CASE("report: every table row has as many cells as its head", "[report]") {
    std::istringstream lines(toMarkdown(fullReport()));
    std::size_t columns = 0;
    for (std::string line; std::getline(lines, line);) {
        if (line.empty() || line[0] != '|') {
            columns = 0;
            continue;
        }
        std::size_t bars = 0;
        for (std::size_t i = 0; i < line.size(); ++i)
            bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
        if (columns == 0) columns = bars;
        INFO(line);
        CHECK(bars == columns);
    }
}

TEST_CASE("numbers as people read them", "[report]") {
    CHECK(bytesText(17) == "17 B");
    CHECK(bytesText(999) == "999 B");
    CHECK(bytesText(69'060'623) == "69.06 MB");
    CHECK(bytesText(812'345) == "812.3 kB");
    CHECK(countText(960) == "960");
    CHECK(countText(17'240'000) == "17.24 M");
    CHECK(secondsText(0.0123) == "12.30 ms");
    CHECK(secondsText(2) == "2.00 s");
    CHECK(joulesText(1.25e-4) == "125.0 uJ");
    CHECK(shareText(1, 0) == "-");
    CHECK(numberText(std::numeric_limits<double>::quiet_NaN()) == "not finite");
    CHECK(estimateText({0.88, 0.85, std::numeric_limits<double>::infinity(), 3}) ==
          "0.8800 [0.8500, not finite]");
    CHECK(code("a`b") == "`` a`b ``");
}

}  // namespace
}  // namespace tcompress::report
