#include "lib/support/option_set.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

using namespace tcompress;
using nlohmann::json;

namespace {

enum class Scope { layer, global };

struct Options {
    double ratio = 0.5;
    std::int64_t bits = 8;
    bool symmetric = true;
    std::string note = "none";
    Scope scope = Scope::global;
    std::optional<std::int64_t> count;
    std::optional<double> energy;
    std::vector<std::string> targets;
    std::vector<std::int64_t> layers;
};

OptionTable<Options> table() {
    OptionTable<Options> table;
    table.option("ratio", &Options::ratio, "share to remove").range(0, 1).alias("share");
    table.option("bits", &Options::bits, "width of an integer").range(2, 8);
    table.option("symmetric", &Options::symmetric, "zero stays zero");
    table.option("note", &Options::note, "free text");
    table.choice<Scope>("scope", &Options::scope, {{"layer", Scope::layer}, {"global", Scope::global}},
                        "what of");
    table.option("count", &Options::count, "how many").range(1, 100);
    table.option("energy", &Options::energy, "share of squares");
    table.option("targets", &Options::targets, "patterns");
    table.option("layers", &Options::layers, "indices").range(0, 10);
    return table;
}

/// The problems of one object, as "place: message".
std::vector<std::string> problems(const json& object) {
    Diagnostics diagnostics;
    table().parse(object, "/passes/0", diagnostics);
    std::vector<std::string> lines;
    for (const auto& entry : diagnostics.entries()) lines.push_back(entry.place + ": " + entry.message);
    return lines;
}

Options parsed(const json& object) {
    Diagnostics diagnostics;
    const Options options = table().parse(object, "", diagnostics);
    for (const auto& entry : diagnostics.entries()) FAIL(entry.place << ": " << entry.message);
    return options;
}

}  // namespace

TEST_CASE("options that are not given keep the defaults of the struct") {
    const Options options = parsed(json::object());
    CHECK(options.ratio == 0.5);
    CHECK(options.bits == 8);
    CHECK(options.scope == Scope::global);
    CHECK_FALSE(options.count.has_value());
    CHECK(options.targets.empty());
}

TEST_CASE("options of every type are read from JSON values") {
    const Options options = parsed({{"type", "x"},
                                    {"method", "y"},
                                    {"ratio", 0.25},
                                    {"bits", 4},
                                    {"symmetric", false},
                                    {"note", "hello"},
                                    {"scope", "layer"},
                                    {"count", 3},
                                    {"energy", 1},
                                    {"targets", {"a*", "re:b"}},
                                    {"layers", {1, 5}}});
    CHECK(options.ratio == 0.25);
    CHECK(options.bits == 4);
    CHECK_FALSE(options.symmetric);
    CHECK(options.note == "hello");
    CHECK(options.scope == Scope::layer);
    CHECK(options.count == 3);
    CHECK(options.energy == 1.0);
    CHECK(options.targets == std::vector<std::string>{"a*", "re:b"});
    CHECK(options.layers == std::vector<std::int64_t>{1, 5});
}

TEST_CASE("one-liners give every value as a text, lists joined by plus signs") {
    const Options options = parsed({{"ratio", "0.25"},
                                    {"bits", "4"},
                                    {"symmetric", "false"},
                                    {"count", "7"},
                                    {"targets", "role:ffn.*+op:MatMul"},
                                    {"layers", "0+2"}});
    CHECK(options.ratio == 0.25);
    CHECK(options.bits == 4);
    CHECK_FALSE(options.symmetric);
    CHECK(options.count == 7);
    CHECK(options.targets == std::vector<std::string>{"role:ffn.*", "op:MatMul"});
    CHECK(options.layers == std::vector<std::int64_t>{0, 2});
    CHECK(parsed({{"layers", 3}}).layers == std::vector<std::int64_t>{3});
}

TEST_CASE("whole numbers written as 8.0 are integers, 8.5 is not") {
    CHECK(parsed({{"bits", 8.0}}).bits == 8);
    CHECK(problems({{"bits", 7.5}}) ==
          std::vector<std::string>{"/passes/0/bits: must be an integer, not 7.5"});
    CHECK(problems({{"bits", "7x"}}) ==
          std::vector<std::string>{"/passes/0/bits: must be an integer, not \"7x\""});
    CHECK(problems({{"count", 18446744073709551615ULL}}).size() == 1);
    CHECK(problems({{"ratio", "nan"}}).size() == 1);
}

TEST_CASE("an alias is read as its option and excludes the option itself") {
    CHECK(parsed({{"share", 0.75}}).ratio == 0.75);
    CHECK(problems({{"share", 0.75}, {"ratio", 0.5}}) ==
          std::vector<std::string>{"/passes/0/share: 'ratio' and 'share' name the same option"});
}

TEST_CASE("every problem is told at once, each at its own place") {
    const auto lines =
        problems({{"ratoi", 0.5}, {"bits", 9}, {"scope", "gobal"}, {"layers", {1, 11, "x"}}, {"note", 3}});
    CHECK(lines == std::vector<std::string>{
                       "/passes/0/bits: must be from 2 to 8, not 9",
                       "/passes/0/layers/1: must be from 0 to 10, not 11",
                       "/passes/0/layers/2: must be an integer, not \"x\"",
                       "/passes/0/note: must be a text, not 3",
                       "/passes/0/ratoi: unknown option 'ratoi', did you mean 'ratio'?",
                       "/passes/0/scope: 'gobal' is not one of layer, global, did you mean 'global'?",
                   });
}

TEST_CASE("an option unlike any other gets the list of options") {
    const auto lines = problems({{"zzzzzzzz", 1}});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find("there are ratio, bits") != std::string::npos);
}

TEST_CASE("keys are escaped as JSON pointers ask") {
    CHECK(problems({{"a/b~c", 1}}).at(0).rfind("/passes/0/a~1b~0c: ", 0) == 0);
}

TEST_CASE("what is no object is refused") {
    CHECK(problems(json::array({1, 2})) ==
          std::vector<std::string>{"/passes/0: must be an object, not [1,2]"});
}

TEST_CASE("a required option must be given; null does not give it") {
    OptionTable<Options> needed;
    needed.option("count", &Options::count, "how many layers").required();
    for (const json& object : {json::object(), json{{"count", nullptr}}}) {
        Diagnostics diagnostics;
        needed.parse(object, "/passes/1", diagnostics);
        REQUIRE(diagnostics.entries().size() == 1);
        CHECK(diagnostics.entries()[0].message == "'count' is missing: how many layers");
    }
}

TEST_CASE("the schema, the resolved values and the help come from the same declaration") {
    const json schema = optionSchema(table().specs());
    CHECK(schema["ratio"]["type"] == "number");
    CHECK(schema["ratio"]["minimum"] == 0.0);
    CHECK(schema["ratio"]["maximum"] == 1.0);
    CHECK(schema["ratio"]["default"] == 0.5);
    CHECK(schema["scope"]["enum"] == json({"layer", "global"}));
    CHECK(schema["share"]["description"] == "the same as ratio");
    CHECK_FALSE(schema["count"].contains("default"));

    Diagnostics diagnostics;
    const OptionValues values =
        parseOptions(table().specs(), {{"count", 2}, {"scope", "layer"}}, "", diagnostics);
    const json resolved = optionJson(table().specs(), values);
    CHECK(resolved["count"] == 2);
    CHECK(resolved["scope"] == "layer");
    CHECK(resolved["ratio"] == 0.5);
    CHECK_FALSE(resolved.contains("energy"));

    const std::string help = describeOptions(table().specs());
    CHECK(help.find("ratio (share): number from 0 to 1, default 0.5") != std::string::npos);
    CHECK(help.find("scope: layer|global, default global") != std::string::npos);
}

TEST_CASE("resolved values read back to the same values") {
    Diagnostics diagnostics;
    const auto specs = table().specs();
    const OptionValues values =
        parseOptions(specs, {{"ratio", 0.1}, {"layers", {1, 2}}, {"targets", "a+b"}}, "", diagnostics);
    CHECK(parseOptions(specs, optionJson(specs, values), "", diagnostics) == values);
    CHECK(diagnostics.empty());
}

TEST_CASE("options with a dot in their names are members of an object") {
    struct Nested {
        std::optional<double> speedup, macs;
    };
    OptionTable<Nested> nested;
    nested.option("target.speedup", &Nested::speedup, "times as fast").range(1, 10);
    nested.option("target.macs", &Nested::macs, "share that may stay").range(0, 1);
    Diagnostics diagnostics;
    CHECK(nested.parse({{"target", {{"speedup", 2}}}}, "/passes/0", diagnostics).speedup == 2.0);
    CHECK(nested.parse({{"target.macs", "0.5"}}, "/passes/0", diagnostics).macs == 0.5);
    CHECK(diagnostics.empty());

    const OptionValues values = parseOptions(nested.specs(), {{"target", {{"macs", 0.25}}}}, "", diagnostics);
    CHECK(optionJson(nested.specs(), values) == json{{"target", {{"macs", 0.25}}}});
    const json schema = optionSchema(nested.specs());
    CHECK(schema["target"]["properties"]["speedup"]["maximum"] == 10.0);
    CHECK(schema["target"]["additionalProperties"] == false);

    nested.parse({{"target", {{"speedup", 0.5}, {"mac", 1}}}}, "/passes/0", diagnostics);
    REQUIRE(diagnostics.entries().size() == 2);
    CHECK(diagnostics.entries()[0].place == "/passes/0/target/mac");
    CHECK(diagnostics.entries()[0].message.find("target.macs") != std::string::npos);
    CHECK(diagnostics.entries()[1].place == "/passes/0/target/speedup");
}
