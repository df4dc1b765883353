// Budgets: the allocation against every choice there is, tables of costs, and what comes out for each kind of target.

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <limits>

#include "lib/analysis/cost.h"
#include "lib/data/calibration_data.h"
#include "lib/ir/save.h"
#include "lib/measure/energy.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"
#include "passes/prune/budget/allocation.h"
#include "passes/prune/budget/block_options.h"
#include "passes/prune/budget/cost_table.h"
#include "passes/prune/budget/error_table.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"
#include "tests/support/make_pass.h"
#include "tests/unit/passes/weight_models.h"
#include "tests/unit/passes/zoo_samples.h"

using namespace tcompress;
using passes::Assignment;
using passes::Choice;
using test::runPass;
using test::samplesOf;

namespace {

double macsOf(const ir::Model& model) {
    return static_cast<double>(analysis::cost(model, analysis::recognise(model)).macs);
}

double parametersOf(const ir::Model& model) {
    return static_cast<double>(analysis::cost(model, analysis::recognise(model)).parameters);
}

double energyOf(const ir::Model& model) {
    const analysis::ModelCost cost = analysis::cost(model, analysis::recognise(model));
    return measure::modelledEnergy(cost, measure::weightBytesRead(model, cost.sequenceLength), 0).joulesPerInference;
}

/// The least error of all combinations within the budget; infinite when there is none.
double leastError(const std::vector<std::vector<Choice>>& groups, double budget, std::size_t group = 0) {
    if (budget < 0) return std::numeric_limits<double>::infinity();
    if (group == groups.size()) return 0;
    double least = std::numeric_limits<double>::infinity();
    for (const Choice& choice : groups[group])
        least = std::min(least, choice.error + leastError(groups, budget - choice.cost, group + 1));
    return least;
}

passes::Anatomy anatomyOf(const ir::Model& model) {
    pipeline::PassReport unused;
    return passes::dissect(analysis::recognise(model), {}, unused);
}

ir::Model withBudget(const ir::Model& model, const std::string& options, const data::Dataset& samples) {
    return runPass(model, "prune", "budget", options, &samples).model;
}

}  // namespace

TEST_CASE("the allocation is the best of all combinations") {
    Random random(1, "allocation");
    for (int round = 0; round < 200; ++round) {
        std::vector<std::vector<Choice>> groups(1 + random.below(4));
        std::int64_t least = 0, most = 0;
        for (auto& group : groups) {
            std::int64_t cheapest = 100, dearest = 0;
            for (std::uint64_t i = 0, count = 1 + random.below(5); i < count; ++i) {
                const auto cost = static_cast<std::int64_t>(random.below(12));
                group.push_back({static_cast<double>(cost), random.uniform()});
                cheapest = std::min(cheapest, cost);
                dearest = std::max(dearest, cost);
            }
            least += cheapest;
            most += dearest;
        }
        const auto budget = least + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(most - least) + 2));
        const auto chosen = passes::allocate(groups, static_cast<double>(budget), std::max<std::int64_t>(1, budget - least));
        REQUIRE(chosen);
        double cost = 0, error = 0;
        for (std::size_t g = 0; g < groups.size(); ++g) {
            cost += groups[g][(*chosen)[g]].cost;
            error += groups[g][(*chosen)[g]].error;
        }
        CHECK(cost <= static_cast<double>(budget));
        CHECK(error == Approx(leastError(groups, static_cast<double>(budget))));
        CHECK_FALSE(passes::allocate(groups, static_cast<double>(least) - 1));
    }
}

TEST_CASE("a block that goes as a whole is one option, wherever parts cannot go by themselves") {
    passes::Anatomy anatomy;
    for (const char* shape : {"a", "b"}) {
        passes::Part part;
        part.shape = shape;
        part.units = 2;
        part.choices = {2, 1, 0};
        anatomy.parts.push_back(part);
    }
    anatomy.blocks = {{{0, 1}, nullptr, 0, true}};
    passes::CostTable costs;
    costs.saved = {{"a", {{0, 8}, {1, 3}}}, {"b", {{0, 7}, {1, 2}}}};
    costs.savedByBlock = {{passes::blockShape(anatomy, anatomy.blocks.front()), 16}};
    constexpr double kNever = std::numeric_limits<double>::infinity();
    passes::ErrorTable errors{{{0, 0.1, 0.3}, {0, 0.2, 0.4}}, {0.5}, {{}, {}, calibration::TensorStore(0)}};
    const auto check = [&](std::size_t count, bool goes) {
        const std::vector<passes::BlockOption> options = passes::blockOptions(0, costs, anatomy, errors);
        CHECK(options.size() == count);
        bool gone = false;
        for (const passes::BlockOption& option : options) {
            const Assignment assignment(option.parts.begin(), option.parts.end());
            gone = gone || anatomy.blocks.front().isDropped(assignment);
            CHECK(option.choice.error == Approx(passes::predictedError(errors, anatomy, assignment)));
            CHECK(option.choice.cost == Approx(costs.predicted(anatomy, assignment)));
        }
        CHECK(gone == goes);
    };
    check(9, true);
    errors.parts[1].back() = kNever;
    check(7, true);
    errors.blocks.front() = kNever;
    check(6, false);
    errors.parts[1].back() = 0.4;
    check(8, false);
}

TEST_CASE("computed costs of parts add up to the cost of the whole") {
    const std::string name = GENERATE("vit_digits", "llama_char", "bert_tiny");
    CAPTURE(name);
    const ir::Model model = test::dataModel(name);
    const passes::Anatomy anatomy = anatomyOf(model);
    Random random(2, name);
    for (const auto meter : {macsOf, parametersOf}) {
        const passes::CostTable table = passes::measureCosts(model, anatomy, meter, silentProgress());
        CHECK(table.whole == meter(model));
        for (int round = 0; round < 4; ++round) {
            Assignment assignment = anatomy.whole();
            for (std::size_t i = 0; i < assignment.size(); ++i) {
                const auto& choices = anatomy.parts[i].choices;
                assignment[i] = choices[random.below(choices.size() - (anatomy.parts[i].canGo() ? 1 : 0))];
            }
            CHECK(table.predicted(anatomy, assignment) == Approx(meter(passes::shaped(model, anatomy, assignment))));
        }
    }
}

TEST_CASE("a table of costs comes back from its text, and a damaged one does not") {
    const ir::Model model = test::dataModel("vit_digits");
    const passes::Anatomy anatomy = anatomyOf(model);
    passes::CostTable table = passes::measureCosts(model, anatomy, parametersOf, silentProgress());
    for (auto& [shape, rows] : table.saved)
        for (auto& [keep, saved] : rows) saved /= 3;
    REQUIRE_FALSE(table.savedByRanks.empty());
    table.assignments[passes::assignmentKey(anatomy.smallest())] = 0.1;
    const std::string text = passes::tableText(table, "a test");
    std::string problem;
    const auto read = passes::readTable(text, problem);
    REQUIRE(read);
    CHECK(read->whole == table.whole);
    CHECK(read->saved == table.saved);
    CHECK(read->savedByRanks == table.savedByRanks);
    CHECK(read->savedByBlock == table.savedByBlock);
    CHECK(read->assignments == table.assignments);
    CHECK(read->covers(anatomy));
    CHECK_FALSE(read->covers(anatomyOf(test::dataModel("bert_tiny"))));

    std::string changed = text;
    changed[changed.find("0.1")] = '7';
    CHECK_FALSE(passes::readTable(changed, problem));
    CHECK_THAT(problem, Catch::Contains("checksum"));
    CHECK_FALSE(passes::readTable(text.substr(0, text.size() / 2), problem));
    CHECK_FALSE(passes::readTable("[]", problem));
}

TEST_CASE("a plan put together from layers does what each of its layers does") {
    // Layers that stand next to each other go one by one, each with its own map, whatever their order.
    const ir::Model model = test::dataModel("vit_digits");
    const passes::Anatomy anatomy = anatomyOf(model);
    const data::CalibrationData data(samplesOf("digits_calibration", 0, 32));
    const pipeline::PassContext context(&data, 42, "0", silentProgress());
    const data::Split samples = context.calibrationSplit("test", "it is a test", 0.25);
    std::vector<std::string> refusals;
    const analysis::TransformerView view = analysis::recognise(model);
    const passes::ErrorTable table = passes::measureErrors(model, view, anatomy, samples, refusals, context);
    const passes::OutputJudge judge(model, {model.graph().outputs().front()->name()}, passes::judgesOf(samples), context);
    const auto errorOf = [&](const Assignment& assignment) {
        return judge.error(passes::assembled(model, anatomy, table.layers, assignment));
    };
    CHECK(errorOf(anatomy.whole()) < 1e-10);
    Assignment all = anatomy.whole();
    for (std::size_t i = 0; i < anatomy.parts.size(); ++i) {
        const passes::Part& part = anatomy.parts[i];
        REQUIRE(part.canGo());
        REQUIRE(part.rankPercents().size() == 4);
        for (const passes::PartChoice choice : {passes::PartChoice(part.units, 25), passes::PartChoice(0)}) {
            Assignment one = anatomy.whole();
            one[i] = choice;
            CHECK(errorOf(one) == Approx(table.parts[i][part.indexOf(choice)]).epsilon(0.05));
        }
        all[i] = 0;
    }
    const double lost = errorOf(all);
    CHECK(lost > table.parts.front().back());
    CHECK(lost < 2);
}

TEST_CASE("each target holds, and hardly more is taken than it asks for") {
    struct Case {
        const char* key;
        double (*cost)(const ir::Model&);
    };
    const Case test = GENERATE(Case{"macs", macsOf}, Case{"params", parametersOf}, Case{"energy", energyOf});
    CAPTURE(test.key);
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 48);
    const ir::Model small =
        withBudget(model, std::string(R"({"target": {")") + test.key + R"(": 0.55}, "multiple": 1})", samples);
    const double share = test.cost(small) / test.cost(model);
    CHECK(share <= 0.55);
    CHECK(share > 0.52);
}

TEST_CASE("a budget does better than the same share for every layer") {
    const ir::Model model = test::dataModel("vit_mnist5k");
    const data::Dataset fit = samplesOf("mnist5k_calibration", 0, 96), other = samplesOf("mnist5k_calibration", 96, 160);
    const auto heads = runPass(model, "remove-heads", "", R"({"ratio": 0.5})", &fit);
    const auto even = runPass(heads.model, "prune", "neuron", R"({"sparsity": 0.5})", &fit);
    const double share = macsOf(even.model) / macsOf(model);
    const auto chosen = runPass(model, "prune", "budget", fmt::format(R"({{"target": {{"macs": {}}}}})", share), &fit);
    CHECK(macsOf(chosen.model) <= macsOf(even.model));
    CHECK(test::outputError(model, chosen.model, other) < 0.9 * test::outputError(model, even.model, other));
    for (const auto& changed : chosen.report.changed) CHECK(changed.error >= 0);
    const auto& notes = chosen.report.notes;
    CHECK(std::any_of(notes.begin(), notes.end(), [](const std::string& note) {
        return note.find("predicted: ") == 0 && note.find("of the parameters") != std::string::npos;
    }));
}

TEST_CASE("ranks are chosen where they cost less than units, and the file holds products") {
    const ir::Model model = test::dataModel("llama_char");
    const data::Dataset samples = samplesOf("fortunes_char_calibration", 0, 6);
    const auto result = runPass(model, "prune", "budget",
                                R"({"target": {"params": 0.9}, "drop_layers": false, "targets": ["*layers.[01]/*"]})", &samples);
    CHECK(parametersOf(result.model) <= 0.9 * parametersOf(model));
    CHECK(std::any_of(result.report.changed.begin(), result.report.changed.end(),
                      [](const auto& changed) { return changed.change.find("to rank") != std::string::npos; }));
    CHECK(result.model.graph().nodes().size() > model.graph().nodes().size());
}

TEST_CASE("layers that go take their key-value cache along while they are tried") {
    const char* target = GENERATE(R"({"target": {"macs": 0.6}})", R"({"target": {"speedup": 1.2}})");
    CAPTURE(target);
    const ir::Model model = test::dataModel("gpt2_char_kv");
    const data::Dataset samples = data::fitToModel(samplesOf("fortunes_char_calibration", 0, 8), model);
    CHECK(macsOf(withBudget(model, target, samples)) < macsOf(model));
}

TEST_CASE("a target out of reach is refused with what can be reached") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 16);
    CHECK_THROWS_WITH(runPass(model, "prune", "budget", R"({"target": {"macs": 0.01}})", &samples),
                      Catch::Contains("0.01 of the multiply-accumulates cannot be reached") &&
                          Catch::Contains("0.") && Catch::Contains("drop_layers"));
    CHECK_THROWS_WITH(runPass(model, "prune", "budget", R"({"target": {"macs": 0.5}})"),
                      Catch::Contains("--calibration"));
}

TEST_CASE("a budget has exactly one target") {
    CHECK_THROWS_WITH(test::makePass("prune", "budget", R"({})"), Catch::Contains("exactly one"));
    CHECK_THROWS_WITH(test::makePass("prune", "budget", R"({"target": {"macs": 0.5, "speedup": 2}})"),
                      Catch::Contains("2 are given"));
    CHECK_THROWS_WITH(test::makePass("prune", "budget", R"({"target": {"mac": 0.5}})"),
                      Catch::Contains("target.macs"));
    CHECK_THROWS_WITH(test::makePass("prune", "budget", R"({"target": {"speedup": 0.5}})"),
                      Catch::Contains("/passes/0/target/speedup"));
    CHECK_NOTHROW(test::makePass("prune", "budget", R"({"target.macs": "0.5"})"));
}

TEST_CASE("the same table of times gives the same bytes for any number of threads") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 32);
    const test::ScratchFolder folder;
    const std::string table = (folder.path() / "table.json").string();
    const std::string options = fmt::format(R"({{"target": {{"speedup": 1.3}}, "latency_table": "{}"}})", table);
    withBudget(model, options, samples);
    REQUIRE(std::filesystem::exists(table));
    const auto bytesOf = [&](int threads) {
        setThreadCount(threads);
        const ir::Model result = withBudget(model, options, samples);
        setThreadCount(0);
        return ir::modelToProto(result, ir::WeightData::embed).SerializeAsString();
    };
    const std::string one = bytesOf(1);
    CHECK(bytesOf(2) == one);
    CHECK(bytesOf(3) == one);

    test::writeFile(table, test::readFile(table) + "more");
    CHECK_THROWS_WITH(withBudget(model, options, samples), Catch::Contains(table) && Catch::Contains("remove it"));
    std::filesystem::remove(table);
    std::filesystem::create_directory(table);
    CHECK_THROWS_WITH(withBudget(model, options, samples), Catch::Contains("it is a folder"));
}

TEST_CASE("parts that save little by themselves do not make a target unreachable that the whole reaches") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::Dataset samples = samplesOf("digits_calibration", 0, 16);
    const test::ScratchFolder folder;
    const std::string file = (folder.path() / "table.json").string();
    const std::string options = fmt::format(R"({{"target": {{"speedup": 1.5}}, "latency_table": "{}"}})", file);
    withBudget(model, options, samples);
    std::string problem;
    passes::CostTable table = passes::readTable(test::readFile(file), problem).value();
    for (auto* shapes : {&table.saved, &table.savedByRanks})
        for (auto& [shape, saved] : *shapes)
            for (auto& [units, seconds] : saved) seconds *= 0.01;
    for (auto& [shape, seconds] : table.savedByBlock) seconds *= 0.01;
    table.assignments = {{passes::assignmentKey(anatomyOf(model).smallest()), table.whole / 5}};
    test::writeFile(file, passes::tableText(table, "made up"));
    CHECK(macsOf(withBudget(model, options, samples)) < macsOf(model));
    table.assignments.begin()->second = table.whole / 1.2;
    test::writeFile(file, passes::tableText(table, "made up"));
    CHECK_THROWS_WITH(withBudget(model, options, samples), Catch::Contains("cannot be reached: with all removed that may go the model is 1.20 times as fast"));
}

TEST_CASE("measured times are kept in the cache folder, and measured anew when they are damaged") {
    const ir::Model model = test::dataModel("vit_digits");
    const data::CalibrationData data(samplesOf("digits_calibration", 0, 16));
    const test::ScratchFolder folder;
    const auto run = [&] {
        ir::Model result = model.clone();
        const pipeline::PassContext context(&data, 42, "0", silentProgress(), std::make_shared<pipeline::ViewCache>(),
                                            {.cacheFolder = folder.path()});
        test::makePass("prune", "budget", R"({"target": {"speedup": 1.2}})")->run(result, context);
        return ir::modelToProto(result, ir::WeightData::embed).SerializeAsString();
    };
    const std::string first = run();
    std::filesystem::path kept;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
        if (entry.path().string().ends_with(".latency.json")) kept = entry.path();
    REQUIRE_FALSE(kept.empty());
    const std::string table = test::readFile(kept);
    CHECK(run() == first);
    CHECK(test::readFile(kept) == table);
    test::writeFile(kept, "{}");
    run();
    std::string problem;
    CHECK(passes::readTable(test::readFile(kept), problem));
}

TEST_CASE("what a budget leaves runs in ONNX Runtime") {
    if (!test::haveJudge()) return;
    const std::string name = GENERATE("vit_digits", "llama_char");
    CAPTURE(name);
    const ir::Model model = test::dataModel(name);
    const data::Dataset samples =
        name == "vit_digits" ? samplesOf("digits_calibration", 0, 32) : samplesOf("fortunes_char_calibration", 0, 16);
    const ir::Model small = withBudget(model, R"({"target": {"macs": 0.5}})", samples);
    CHECK(small.constantBytes() < model.constantBytes());
    const test::Feeds feeds = test::feedsFor(small);
    CHECK(test::largestDifference(test::outputsOf(small, feeds), test::runtimeOutputsOf(small, feeds)) < 1e-3);
}
