// Runs every case below this folder: a model in ONNX's text syntax, what is done to it, and what must come
// out. See README.md for the form of a case. TCOMPRESS_UPDATE_GOLDEN=1 writes what came out into the case
// files instead of comparing.

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "lib/ir/load.h"
#include "lib/ir/save.h"
#include "lib/ir/validate.h"
#include "lib/support/error.h"
#include "tests/support/files.h"
#include "tests/support/make_pass.h"

using namespace tcompress;
using namespace tcompress::test;

namespace {

struct GoldenCase {
    std::string comment;  ///< the lines that begin with '#'
    std::string pass;
    std::string method;
    std::string options = "{}";
    std::string before;
    std::string after;

    std::string text() const {
        std::string result = comment + "pass: " + pass + "\n";
        if (!method.empty()) result += "method: " + method + "\n";
        if (options != "{}") result += "options: " + options + "\n";
        return result + "=== before\n" + before + "=== after\n" + after;
    }
};

GoldenCase parse(const std::string& text) {
    GoldenCase parsed;
    std::string* section = nullptr;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        auto setting = [&](const char* key, std::string& target) {
            if (line.starts_with(key)) target = line.substr(std::string(key).size());
        };
        if (line == "=== before") {
            section = &parsed.before;
        } else if (line == "=== after") {
            section = &parsed.after;
        } else if (section != nullptr) {
            *section += line + "\n";
        } else if (line.starts_with("#")) {
            parsed.comment += line + "\n";
        } else {
            setting("pass: ", parsed.pass);
            setting("method: ", parsed.method);
            setting("options: ", parsed.options);
        }
    }
    return parsed;
}

/// The changed model, or "error: …" for a refusal.
std::string outcome(const GoldenCase& golden) {
    std::string text;
    try {
        ir::Model model = ir::fromText(golden.before);
        if (golden.pass != "none") {
            model = std::move(runPass(model, golden.pass, golden.method, golden.options).model);
        }
        ir::validateStructure(model);
        text = ir::toText(model);
    } catch (const PassError& error) {
        text = fmt::format("error: {}", error.what());
    } catch (const ModelError& error) {
        text = fmt::format("error: {}", error.what());
    }
    while (text.ends_with('\n')) text.pop_back();
    return text + "\n";
}

std::vector<std::filesystem::path> caseFiles() {
    std::vector<std::filesystem::path> files;
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(TCOMPRESS_TEST_DATA "/../golden")) {
        if (entry.path().extension() == ".golden") files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace

TEST_CASE("golden cases") {
    const bool update = std::getenv("TCOMPRESS_UPDATE_GOLDEN") != nullptr;
    std::vector<std::filesystem::path> files = caseFiles();
    REQUIRE_FALSE(files.empty());
    for (const std::filesystem::path& file : files) {
        INFO("golden case " << file.lexically_normal().string());
        std::string text = readFile(file);
        GoldenCase golden = parse(text);
        REQUIRE_FALSE(golden.before.empty());
        std::string found = outcome(golden);
        if (update) {
            golden.after = found;
            if (golden.text() != text) writeFile(file, golden.text());
            continue;
        }
        CHECK(found == golden.after);
    }
}
