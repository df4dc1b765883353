// Operator cases: the ONNX project's own and corner cases answered by ONNX Runtime (scripts/fetch_cases.sh). Those that do not
// pass stand in skips.txt with the reason, by name or, where only one suite's is meant, as SUITE/NAME; one that passes has to be
// struck off. TCOMPRESS_ONNX_REPORT=FILE writes the outcome of each case.

#include <catch2/catch.hpp>
#include <fmt/core.h>
#include <onnx/defs/schema.h>

#include <cstdlib>
#include <fstream>

#include "tests/backend/case.h"
#include "tests/backend/lists.h"

namespace {

using namespace tcompress;
using test::OperatorCase;
using Skips = std::map<std::string, std::string>;

bool isSkipped(const OperatorCase& c, const Skips& skips) { return skips.contains(c.name) || skips.contains(c.label()); }

struct Count {
    int passed = 0;
    int skipped = 0;
};

TEST_CASE("Every operator case passes or is skipped for a reason") {
    const std::vector<OperatorCase> cases = test::operatorCases();
    if (cases.empty()) return;
    Skips skips = test::readList("skips.txt");
    std::ofstream report;
    if (const char* path = std::getenv("TCOMPRESS_ONNX_REPORT")) report.open(path);
    std::map<std::string, Count> counts;
    std::set<std::string> used;
    for (const OperatorCase& c : cases) {
        const std::string failure = test::failureOf(c);
        if (report) report << c.label() << ": " << (failure.empty() ? "passed" : failure.substr(0, failure.find('\n'))) << "\n";
        const bool skipped = isSkipped(c, skips);
        ++(failure.empty() ? counts[c.suite].passed : counts[c.suite].skipped);
        used.insert(c.name);
        used.insert(c.label());
        INFO(c.label() << (skipped ? " passes and stands in skips.txt" : ": " + failure));
        CHECK(failure.empty() != skipped);
    }
    for (const auto& [name, reason] : skips) {
        INFO("skips.txt: " << name << ": " << reason);
        CHECK(used.contains(name));
        CHECK_FALSE(reason.empty());
    }
    for (const auto& [suite, count] : counts) WARN(fmt::format("{}: {} cases passed, {} skipped", suite, count.passed, count.skipped));
}

/// A case of an operator that occurs in Transformers may be skipped when it is about strings, which are refused, or when a later
/// suite has mended its expected values and that case passes.
TEST_CASE("No case of an operator that occurs in Transformers is skipped") {
    const std::vector<OperatorCase> cases = test::operatorCases();
    if (cases.empty()) return;
    const Skips skips = test::readList("skips.txt");
    const auto listed = test::readList("transformer_operators.txt");
    std::set<std::string> passing;
    std::set<std::string> found;
    for (const OperatorCase& c : cases) {
        if (!isSkipped(c, skips)) passing.insert(c.name);
    }
    for (const OperatorCase& c : cases) {
        const test::Contents contents = test::contentsOf(test::modelOf(c));
        found.insert(contents.operators.begin(), contents.operators.end());
        if (!isSkipped(c, skips) || contents.strings || passing.contains(c.name)) continue;
        const bool hasOther = std::ranges::any_of(contents.operators, [&](const std::string& name) { return !listed.contains(name); });
        INFO(c.label());
        CHECK(hasOther);
    }
    for (const auto& [name, reason] : listed) {
        INFO(name << " has no case");
        CHECK(found.contains(name));
    }
}

TEST_CASE("What is about strings is refused by name") {
    for (const OperatorCase& c : test::operatorCases()) {
        if (!test::contentsOf(test::modelOf(c)).strings) continue;
        const std::string failure = test::failureOf(c);
        INFO(c.label() << ": " << failure);
        CHECK((failure.find("string") != std::string::npos || failure.find("is not supported") != std::string::npos));
    }
}

TEST_CASE("Every row of the operator tables has a passing case or a reason") {
    const std::vector<OperatorCase> cases = test::operatorCases();
    if (cases.empty()) return;
    const Skips skips = test::readList("skips.txt");
    const auto reasons = test::readList("rows_without_case.txt");
    std::set<const exec::OperatorRow*> covered;
    for (const OperatorCase& c : cases) {
        if (isSkipped(c, skips)) continue;
        const test::Contents contents = test::contentsOf(test::modelOf(c));
        covered.insert(contents.rows.begin(), contents.rows.end());
    }
    for (const exec::OperatorRow* row : exec::allOperators()) {
        const std::string domain(row->domain.empty() ? "ai.onnx" : row->domain);
        const std::string key = fmt::format("{}:{}-{}", domain, row->type, row->since);
        const bool excused = reasons.contains(key) || reasons.contains(domain + ":*");
        INFO(key << (excused ? " has a case and stands in rows_without_case.txt" : " has no case"));
        if (covered.contains(row)) {
            CHECK_FALSE(reasons.contains(key));
        } else {
            CHECK(excused);
        }
    }
}

/// Of the first input, as the newest definition of the operator in ONNX has them.
std::set<DType> definedTypes(const exec::OperatorRow& row) {
    const onnx::OpSchema* schema = onnx::OpSchemaRegistry::Schema(std::string(row.type), std::string(row.domain));
    std::set<DType> types;
    if (!schema || schema->inputs().empty()) return types;
    for (int number = 1; number <= static_cast<int>(DType::int2); ++number) {
        const auto type = static_cast<DType>(number);
        const std::string ours(name(type));
        const std::string theirs = ours == "float32" ? "float" : ours == "float64" ? "double" : ours;
        const auto& allowed = schema->inputs().front().GetTypes();
        const bool isAllowed = std::ranges::any_of(allowed, [&](const std::string* text) { return *text == "tensor(" + theirs + ")"; });
        if (isAllowed) types.insert(type);
    }
    return types;
}

TEST_CASE("Every operator takes the element types of its definition, or a reason is given") {
    auto reasons = test::readList("types_without_kernel.txt");
    for (const exec::OperatorRow* row : exec::allOperators()) {
        for (DType type : definedTypes(*row)) {
            if (!isInteger(type) && !isFloatingPoint(type) && type != DType::boolean) continue;  // strings and complex numbers
            const std::string key = fmt::format("{}-{} {}", row->type, row->since, name(type));
            const bool isExcused = reasons.erase(key) > 0;
            INFO(key << (isExcused ? " stands in types_without_kernel.txt" : " has no kernel"));
            CHECK(row->types.contains(type) != isExcused);
        }
    }
    for (const auto& [key, reason] : reasons) {
        FAIL_CHECK("types_without_kernel.txt: " << key << ": " << reason << ": the operator's definition has no such type");
    }
}

}  // namespace
