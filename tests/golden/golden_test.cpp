// Runs every case below this folder: a model in ONNX's text syntax, what is done to it, and what must come
// out. See README.md for the form of a case. TCOMPRESS_UPDATE_GOLDEN=1 writes what came out into the case
// files instead of comparing.

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>

#include "lib/ir/validate.h"
#include "lib/support/error.h"
#include "tests/support/files.h"
#include "tests/support/make_pass.h"
#include "tests/support/text_model.h"

using namespace tcompress;
using namespace tcompress::test;

namespace {

struct GoldenCase {
    std::string comment;  ///< the lines that begin with '#'
    std::string pass;
    std::string method;
    std::string options = "{}";
    std::string calibration;  ///< number of random samples; empty = no data
    std::string before;
    std::string after;
    std::string report;  ///< what the pass says it changed and skipped; empty when no pass ran

    std::string text() const {
        std::string result = comment + "pass: " + pass + "\n";
        if (!method.empty()) result += "method: " + method + "\n";
        if (options != "{}") result += "options: " + options + "\n";
        if (!calibration.empty()) result += "calibration: " + calibration + "\n";
        result += "=== before\n" + before + "=== after\n" + after;
        return report.empty() ? result : result + "=== report\n" + report;
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
        } else if (line == "=== report") {
            section = &parsed.report;
        } else if (section != nullptr) {
            *section += line + "\n";
        } else if (line.starts_with("#")) {
            parsed.comment += line + "\n";
        } else {
            setting("pass: ", parsed.pass);
            setting("method: ", parsed.method);
            setting("options: ", parsed.options);
            setting("calibration: ", parsed.calibration);
        }
    }
    return parsed;
}

std::string reportText(const pipeline::PassReport& report) {
    std::string text;
    for (const pipeline::ChangedSite& site : report.changed)
        text += fmt::format("changed {}: {}\n", site.site, site.change);
    for (const pipeline::SkippedSite& site : report.skipped)
        text += fmt::format("skipped {}: {}\n", site.site, site.reason);
    for (const std::string& note : report.notes) text += fmt::format("note: {}\n", note);
    return text.empty() ? "nothing was done\n" : text;
}

std::string printed(const ir::Model& model) {
    ir::validateStructure(model);
    std::string text = textOfModel(model);
    while (text.ends_with('\n')) text.pop_back();
    return text + "\n";
}

/// The case with what comes out of it: the changed model, or "error: …" for a refusal.
GoldenCase played(GoldenCase golden) {
    golden.report.clear();
    try {
        const ir::Model model = modelFromText(golden.before);
        if (golden.pass == "none") {
            golden.after = printed(model);
        } else {
            std::optional<data::Dataset> data;
            if (!golden.calibration.empty())
                data = data::syntheticDataset(model, std::stoll(golden.calibration), /*seed=*/7);
            const PassResult result =
                runPass(model, golden.pass, golden.method, golden.options, data ? &*data : nullptr);
            golden.after = printed(result.model);
            golden.report = reportText(result.report);
        }
    } catch (const PassError& error) {
        golden.after = fmt::format("error: {}\n", error.what());
    } catch (const ModelError& error) {
        golden.after = fmt::format("error: {}\n", error.what());
    }
    return golden;
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
        const GoldenCase golden = parse(text);
        REQUIRE_FALSE(golden.before.empty());
        const GoldenCase found = played(golden);
        if (update) {
            if (found.text() != text) writeFile(file, found.text());
            continue;
        }
        CHECK(found.after == golden.after);
        CHECK(found.report == golden.report);
    }
}
