#include "lib/pipeline/config.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "lib/support/error.h"
#include "tests/unit/pipeline/fake_passes.h"

using namespace tcompress;
using namespace tcompress::pipeline;

namespace {

const std::vector<PassInfo>& registry() {
    static const std::vector<PassInfo> list = test::fakeRegistry();
    return list;
}

Config resolved(const std::string& text, std::vector<std::string> oneLiners = {},
                std::vector<Override> overrides = {}) {
    ConfigSources sources;
    sources.text = text;
    sources.origin = text.empty() ? "" : "recipe.json";
    sources.folder = text.empty() ? "" : "/recipes";
    sources.oneLiners = std::move(oneLiners);
    sources.overrides = std::move(overrides);
    return resolveConfig(sources, registry());
}

/// The lines of the ConfigError that resolving raises.
std::vector<std::string> problems(const std::string& text, std::vector<std::string> oneLiners = {},
                                  std::vector<Override> overrides = {}) {
    std::vector<std::string> lines;
    try {
        resolved(text, std::move(oneLiners), std::move(overrides));
    } catch (const ConfigError& error) {
        std::istringstream stream(error.what());
        for (std::string line; std::getline(stream, line);) lines.push_back(line);
    }
    return lines;
}

std::string method(const std::string& oneLiner) { return resolved("", {oneLiner}).passes.at(0).name(); }

}  // namespace

TEST_CASE("a whole pipeline file is read") {
    const Config config = resolved(R"({
        "$schema": "pipeline.schema.json", "version": 1, "seed": 42, "model": "bert.onnx", "output": "/out/small.onnx",
        "data": {"calibration": {"file": "c.npz", "num_samples": 256}, "evaluation": {"file": "t.npz", "metrics": ["accuracy"]}},
        "passes": [{"type": "prune", "structure": "2:4"}, {"type": "quantize", "method": "weight-only", "bits": 4}],
        "constraints": {"max_accuracy_drop": 0.01},
        "report": {"json": "report.json", "markdown": ["a.md", "b.md"], "energy": "off"}})");
    CHECK(config.seed == 42);
    CHECK(config.model == "/recipes/bert.onnx");
    CHECK(config.output == "/out/small.onnx");
    CHECK(config.calibration.file == "/recipes/c.npz");
    CHECK(config.calibration.samples == 256);
    CHECK(config.evaluation.metrics == std::vector<std::string>{"accuracy"});
    REQUIRE(config.passes.size() == 2);
    CHECK(config.passes[0].name() == "prune/magnitude");
    CHECK(config.passes[1].name() == "quantize/weight-only");
    CHECK(config.constraints.maxAccuracyDrop == 0.01);
    CHECK(config.report.json == std::vector<std::string>{"/recipes/report.json"});
    CHECK(config.report.markdown == std::vector<std::string>{"/recipes/a.md", "/recipes/b.md"});
    CHECK(config.report.energy == measure::EnergyMethod::none);
}

TEST_CASE("every problem of a file is told at once, with its JSON pointer") {
    const auto lines =
        problems(R"({"sed": 1, "data": {"calibation": {}}, "constraints": {"max_size_ratio": -1},
        "passes": [{"type": "prun"}, {"type": "quantize", "bits": 8, "symetric": true}, {"method": "x"}, 5]})");
    CHECK(lines ==
          std::vector<std::string>{
              "recipe.json: /sed: unknown option 'sed', did you mean 'seed'?",
              "recipe.json: /data/calibation: unknown option 'calibation', did you mean 'calibration'?",
              "recipe.json: /constraints/max_size_ratio: must be from 0 to 1000000, not -1",
              "recipe.json: /passes/0/type: no pass is called 'prun', did you mean 'prune'?",
              "recipe.json: /passes/1/symetric: unknown option 'symetric', did you mean 'symmetric'?",
              "recipe.json: /passes/2: 'type' is missing: one of quantize, prune, cleanup, train",
              "recipe.json: /passes/3: must be an object such as {\"type\": \"quantize\"}, not 5",
          });
}

TEST_CASE("one-liners become passes") {
    CHECK(method("quantize:method=dynamic,bits=8") == "quantize/dynamic");
    CHECK(method("quantize/weight-only:bits=4") == "quantize/weight-only");
    CHECK(method("prune:structure=neuron,sparsity=0.5") == "prune/neuron");
    CHECK(method("prune:structure=2:4") == "prune/magnitude");
    CHECK(method("prune/neuron:structure=neuron") == "prune/neuron");
    CHECK(method("prune:sparsity=0.5") == "prune/magnitude");
    CHECK(method("cleanup") == "cleanup");
    const Config config = resolved("", {"quantize:symmetric=false,targets=role:ffn+re:a\\,b", "cleanup"});
    CHECK(config.passes.size() == 2);
    const nlohmann::json step = stepJson(config.passes[0]);
    CHECK(step["symmetric"] == false);
    CHECK(step["targets"] == nlohmann::json({"role:ffn", "re:a,b"}));
}

TEST_CASE("one-liners are added behind the passes of the file") {
    const Config config = resolved(R"({"passes": [{"type": "cleanup"}]})", {"prune"});
    REQUIRE(config.passes.size() == 2);
    CHECK(config.passes[0].name() == "cleanup");
    CHECK(config.passes[1].name() == "prune/magnitude");
}

TEST_CASE("problems of a one-liner name the one-liner") {
    CHECK(problems("", {"prune:sparsity=1.5"}) ==
          std::vector<std::string>{"-p prune:sparsity=1.5: sparsity: must be from 0 to 1, not 1.5"});
    CHECK(problems("", {"prune:sparsiyt=0.5"}) ==
          std::vector<std::string>{
              "-p prune:sparsiyt=0.5: sparsiyt: unknown option 'sparsiyt', did you mean 'sparsity'?"});
    CHECK(problems("", {"prune:structure=neuron,sparsity=1"}) ==
          std::vector<std::string>{
              "-p prune:structure=neuron,sparsity=1: sparsity: must be from 0 to 0.99, not 1"});
    CHECK(
        problems("", {"quantize:targets=op:MatMul,op:Gemm"}) ==
        std::vector<std::string>{
            "-p quantize:targets=op:MatMul,op:Gemm: 'op:Gemm' is no option; the values of a list are joined "
            "by '+', as in layers=0+1; write NAME[/METHOD][:KEY=VALUE,KEY=VALUE]"});
    for (const std::string bad :
         {"", ":a=1", "prune:0.5", "prune:", "prune:=1", "prune:sparsity=1,,bits=2", "prune:a=1,a=2"})
        CHECK(problems("", {bad}).size() == 1);
}

TEST_CASE("an option of another method is answered with that method") {
    const auto lines = problems("", {"quantize:bits=4"});
    CHECK(lines == std::vector<std::string>{"-p quantize:bits=4: bits: must be 8, not 4",
                                            "-p quantize:bits=4: method: is not given, so 'dynamic' was "
                                            "taken; 'weight-only' takes these options"});
    CHECK(problems("", {"quantize:method=dynamic,block_size=32"}).back() ==
          "-p quantize:method=dynamic,block_size=32: method: 'dynamic' does not take these options; "
          "'weight-only' does");
}

TEST_CASE("methods that cannot be found are answered with those there are") {
    CHECK(problems("", {"quantize/dinamic"}) ==
          std::vector<std::string>{
              "-p quantize/dinamic: method: 'quantize' has no method 'dinamic', did you mean "
              "'dynamic'?"});
    CHECK(problems("", {"cleanup/all"}) ==
          std::vector<std::string>{
              "-p cleanup/all: method: 'cleanup' has one method only; leave 'method' out"});
    CHECK(problems("", {"train"}) ==
          std::vector<std::string>{"-p train: 'method' is missing: one of distill, finetune"});
}

TEST_CASE("combinations that a pass refuses are told at their place") {
    CHECK(
        problems(R"({"passes": [{"type": "prune", "structure": "2:4", "threshold": 1}]})") ==
        std::vector<std::string>{"recipe.json: /passes/0/threshold: goes with structure unstructured only"});
}

TEST_CASE("the command line is laid over the file, its paths stay as they were typed") {
    const Config config = resolved(R"({"seed": 1, "model": "a.onnx", "data": {"calibration": "c.npz"}})", {},
                                   {{"/seed", "2", "--seed"},
                                    {"/model", "\"b.onnx\"", "MODEL"},
                                    {"/data/calibration/file", "\"d.npz\"", "--calibration"},
                                    {"/report/json", "[\"r.json\"]", "--report"}});
    CHECK(config.seed == 2);
    CHECK(config.model == "b.onnx");
    CHECK(config.calibration.file == "d.npz");
    CHECK(config.report.json == std::vector<std::string>{"r.json"});
    CHECK(problems("", {}, {{"/seed", "-1", "--seed"}}) ==
          std::vector<std::string>{"--seed: must be from 0 to 9007199254740991, not -1"});
    CHECK(problems("", {}, {{"/passes/x/y", "1", "--set passes.x.y=1"}}).size() == 1);
}

TEST_CASE("JSON that no pipeline file is gets one line") {
    CHECK(problems("[1]").size() == 1);
    CHECK(problems("{\"passes\": [}").at(0).find("recipe.json: line 1, column 13") == 0);
    CHECK(problems("  ").at(0) == "recipe.json: is empty; a pipeline file is a JSON object");
    CHECK(problems(R"({"seed": 1, "seed": 2})").at(0) ==
          "recipe.json: the key 'seed' is given twice in one object; remove one of the two");
    CHECK(problems(R"({"passes": {"a": {"seed": 1}, "b": {"seed": 2}}})")
              .at(0)
              .find("/passes: must be a list") != std::string::npos);
    CHECK(problems(std::string(100000, '[')).at(0) == "recipe.json: nested deeper than 64 levels");
}

TEST_CASE("a resolved config resolves to itself") {
    const std::string once =
        configJson(resolved(R"({"seed": 3, "passes": [{"type": "prune", "structure": "neuron"},
        {"type": "quantize", "bits": 8, "allow_empty": true}], "constraints": {"min_speedup": 1.5}})"));
    CHECK(configJson(resolved(once)) == once);
    CHECK(once.find("\"allow_empty\": true") != std::string::npos);
}

TEST_CASE("the schema lists each pass with its options") {
    const nlohmann::json schema = nlohmann::json::parse(configSchema(registry()));
    const nlohmann::json& passes = schema["properties"]["passes"]["items"]["anyOf"];
    REQUIRE(passes.size() == registry().size());
    CHECK(passes[0]["properties"]["method"]["const"] == "dynamic");
    CHECK(passes[0]["required"] == nlohmann::json({"type"}));
    CHECK(passes[1]["required"] == nlohmann::json({"type", "method"}));
    CHECK(passes[3]["anyOf"] ==
          nlohmann::json::parse(R"([{"required": ["method"]}, {"required": ["structure"]}])"));
    CHECK(schema["properties"]["constraints"]["properties"].contains("min_speedup"));
}
