// The two written forms of a config: resolved JSON and the schema.

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "lib/pipeline/config.h"
#include "lib/pipeline/config_tables.h"

namespace tcompress::pipeline {

namespace {

using nlohmann::json;

json closedObject(json properties) {
    return {{"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

template <class Options>
json sectionSchema(const OptionTable<Options>& table) {
    return closedObject(optionSchema(table.specs()));
}

json fileOr(json object) {
    return {{"anyOf",
             json::array({json{{"type", "string"}, {"description", "the file alone"}}, std::move(object)})}};
}

json passSchema(const PassInfo& info, std::span<const PassInfo> registry) {
    json properties = optionSchema(info.options);
    properties["type"] = {{"const", info.type}, {"description", info.summary}};
    properties["allow_empty"] = {{"type", "boolean"},
                                 {"description", "finding nothing to change is no error"}};
    properties["comment"] = {{"type", "string"}, {"description", "a note for readers"}};
    if (!info.method.empty()) properties["method"] = {{"const", info.method}};
    json required = json::array({"type"});
    for (const OptionSpec& spec : info.options)
        if (spec.required) required.push_back(spec.name);
    json schema = closedObject(std::move(properties));
    schema["title"] = fullName(info);
    if (selectedByStructure(info, registry)) {
        schema["properties"]["structure"] = {{"const", info.method}, {"description", "short for the method"}};
        schema["anyOf"] = json::array({json{{"required", {"method"}}}, json{{"required", {"structure"}}}});
    } else if (!info.method.empty() && !info.defaultMethod) {
        required.push_back("method");
    }
    schema["required"] = std::move(required);
    return schema;
}

}  // namespace

std::string configSchema(std::span<const PassInfo> registry) {
    json passes = json::array();
    for (const PassInfo& info : registry) passes.push_back(passSchema(info, registry));

    json properties = optionSchema(settingsTable().specs());
    properties["$schema"] = {{"type", "string"}};
    properties["data"] = closedObject({{"calibration", fileOr(sectionSchema(calibrationTable()))},
                                       {"evaluation", fileOr(sectionSchema(evaluationTable()))}});
    properties["constraints"] = sectionSchema(constraintsTable());
    properties["report"] = sectionSchema(reportTable());
    properties["passes"] = {{"type", "array"},
                            {"description", "run in this order, each on the result of the one before"},
                            {"items", {{"anyOf", std::move(passes)}}}};
    json schema = closedObject(std::move(properties));
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
    schema["title"] = "tcompress pipeline";
    return schema.dump(2) + "\n";
}

std::string configJson(const Config& config) {
    const auto section = [](const auto& table, const auto& options) {
        return optionJson(table.specs(), table.read(options));
    };
    json document = section(settingsTable(), static_cast<const Settings&>(config));
    if (!config.calibration.file.empty() || config.calibration.synthetic > 0)
        document["data"]["calibration"] = section(calibrationTable(), config.calibration);
    if (!config.evaluation.file.empty())
        document["data"]["evaluation"] = section(evaluationTable(), config.evaluation);
    if (config.constraints.any()) document["constraints"] = section(constraintsTable(), config.constraints);
    document["report"] = section(reportTable(), config.report);
    document["passes"] = json::array();
    for (const PassStep& step : config.passes) document["passes"].push_back(stepJson(step));
    return document.dump(2) + "\n";
}

}  // namespace tcompress::pipeline
