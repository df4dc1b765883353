#include "lib/pipeline/config.h"

#include <fmt/core.h>

#include <charconv>

#include <nlohmann/json.hpp>

#include "lib/pipeline/config_tables.h"
#include "lib/pipeline/json_text.h"
#include "lib/pipeline/one_liner.h"
#include "lib/support/byte_size.h"
#include "lib/support/error.h"

namespace tcompress::pipeline {

namespace {

using nlohmann::json;

/// Turns the JSON pointer of a problem into what the user wrote: "recipe.json: /passes/0/bits", "-p
/// prune:x=1: x", "--seed".
class Places {
  public:
    explicit Places(std::string origin) : origin_(std::move(origin)) {}

    void add(std::string pointer, std::string label) {
        labels_.emplace_back(std::move(pointer), std::move(label));
    }

    std::string describe(const std::string& pointer) const {
        const std::pair<std::string, std::string>* best = nullptr;
        for (const auto& entry : labels_) {
            const std::string& prefix = entry.first;
            const bool covers = pointer == prefix || pointer.rfind(prefix + "/", 0) == 0;
            if (covers && (best == nullptr || prefix.size() >= best->first.size())) best = &entry;
        }
        if (best != nullptr) {
            const std::string rest = pointer.substr(best->first.size());
            return rest.empty() ? best->second : fmt::format("{}: {}", best->second, rest.substr(1));
        }
        if (origin_.empty()) return pointer;
        return pointer.empty() ? origin_ : fmt::format("{}: {}", origin_, pointer);
    }

  private:
    std::string origin_;
    std::vector<std::pair<std::string, std::string>> labels_;
};

/// Every setting that holds a path.
const std::vector<std::string>& pathPointers() {
    static const std::vector<std::string> pointers = {
        "/model",       "/output",         "/data/calibration/file", "/data/evaluation/file",
        "/report/json", "/report/markdown", "/cache_dir"};
    return pointers;
}

/// Options of passes that hold a path.
const std::vector<std::string>& passPathOptions() {
    static const std::vector<std::string> names = {"latency_table"};
    return names;
}

/// "calibration": "file.npz" is short for "calibration": {"file": "file.npz"}.
void expandShortForms(json& document) {
    for (const char* pointer : {"/data/calibration", "/data/evaluation"}) {
        const json::json_pointer place(pointer);
        if (document.contains(place) && document[place].is_string())
            document[place] = json{{"file", document[place]}};
    }
}

void rebase(json& value, const std::filesystem::path& folder) {
    if (value.is_array()) {
        for (json& item : value) rebase(item, folder);
        return;
    }
    if (!value.is_string()) return;
    const std::filesystem::path path = value.get<std::string>();
    if (path.empty() || path == "-" || path.is_absolute()) return;
    value = (folder / path).lexically_normal().string();
}

void rebasePaths(json& document, const std::filesystem::path& folder) {
    if (folder.empty()) return;
    for (const std::string& pointer : pathPointers()) {
        const json::json_pointer place(pointer);
        if (document.contains(place)) rebase(document[place], folder);
    }
    if (!document.contains("passes") || !document["passes"].is_array()) return;
    for (json& pass : document["passes"])
        for (const std::string& name : passPathOptions())
            if (pass.is_object() && pass.contains(name)) rebase(pass[name], folder);
}

/// The 3 of "/passes/3/ratio".
std::optional<std::size_t> passIndex(std::string_view pointer) {
    constexpr std::string_view kPrefix = "/passes/";
    std::size_t index = 0;
    if (!pointer.starts_with(kPrefix)) return std::nullopt;
    const auto parsed = std::from_chars(pointer.data() + kPrefix.size(), pointer.data() + pointer.size(), index);
    return parsed.ec == std::errc() ? std::optional(index) : std::nullopt;
}

void applyOverride(json& document, const Override& setting, Diagnostics& diagnostics) {
    const std::size_t passes = document.contains("passes") && document["passes"].is_array() ? document["passes"].size() : 0;
    if (const std::optional<std::size_t> index = passIndex(setting.pointer); index && *index > passes) {
        diagnostics.add(setting.pointer, fmt::format("there are {} passes, numbered from 0", passes));
        return;
    }
    try {
        document[json::json_pointer(setting.pointer)] = json::parse(setting.valueJson);
    } catch (const json::exception&) {
        diagnostics.add(setting.pointer,
                        "there is no such place in the pipeline; `tcompress schema` prints what there is");
    }
}

/// Lays the command line over the file.
json mergeSources(const ConfigSources& sources, Places& places, Diagnostics& diagnostics) {
    json document = json::object();
    if (!sources.text.empty()) document = parseJson(sources.text, sources.origin);
    if (!document.is_object())
        throw ConfigError(fmt::format("{}: must be a JSON object with \"passes\", not {}", sources.origin,
                                      document.dump().substr(0, 60)));
    expandShortForms(document);
    rebasePaths(document, sources.folder);
    if (!sources.oneLiners.empty()) {
        if (!document.contains("passes")) document["passes"] = json::array();
        json& passes = document["passes"];
        for (const std::string& text : sources.oneLiners) {
            if (!passes.is_array()) break;
            places.add(fmt::format("/passes/{}", passes.size()), fmt::format("-p {}", text));
            passes.push_back(parseOneLiner(text));
        }
    }
    for (const Override& setting : sources.overrides) {
        places.add(setting.pointer, setting.label);
        applyOverride(document, setting, diagnostics);
    }
    return document;
}

/// A section of the file through its table; a section that is not there gives the defaults.
template <class Options>
Options readSection(const OptionTable<Options>& table, const json& document, const std::string& pointer,
                    Diagnostics& diagnostics) {
    const json::json_pointer place(pointer);
    if (!document.contains(place)) return Options{};
    return table.parse(document[place], pointer, diagnostics);
}

void checkCalibration(const CalibrationSource& source, Diagnostics& diagnostics) {
    if (!source.file.empty() && source.synthetic > 0)
        diagnostics.add("/data/calibration", fmt::format("'{}' and {} synthetic samples exclude each other",
                                                         source.file, source.synthetic));
}

}  // namespace

Config resolveConfig(const ConfigSources& sources, std::span<const PassInfo> registry) {
    Places places(sources.origin);
    Diagnostics diagnostics;
    const json document = mergeSources(sources, places, diagnostics);

    Config config;
    const OptionTable<Settings> settings = settingsTable();
    static_cast<Settings&>(config) =
        settings.fill(parseOptions(settings.specs(), document, "", diagnostics, sectionNames()));
    if (document.contains("data"))
        parseOptions({}, document["data"], "/data", diagnostics, {"calibration", "evaluation"});
    config.calibration = readSection(calibrationTable(), document, "/data/calibration", diagnostics);
    config.evaluation = readSection(evaluationTable(), document, "/data/evaluation", diagnostics);
    config.constraints = readSection(constraintsTable(), document, "/constraints", diagnostics);
    config.report = readSection(reportTable(), document, "/report", diagnostics);
    checkCalibration(config.calibration, diagnostics);
    if (!parseByteSize(config.memoryLimit))
        diagnostics.add("/memory_limit", fmt::format("must be a size such as 300MB or 2GiB, not '{}'", config.memoryLimit));

    const json passes = document.value("passes", json::array());
    if (!passes.is_array()) {
        diagnostics.add("/passes",
                        fmt::format("must be a list of pass objects, not {}", passes.dump().substr(0, 60)));
    } else {
        for (std::size_t i = 0; i < passes.size(); ++i)
            config.passes.push_back(
                resolvePass(passes[i], registry, fmt::format("/passes/{}", i), diagnostics));
    }

    Diagnostics placed;
    for (const Diagnostic& problem : diagnostics.entries())
        placed.add(places.describe(problem.place), problem.message);
    placed.throwIfAny();
    return config;
}

}  // namespace tcompress::pipeline
