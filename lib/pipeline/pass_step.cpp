#include "lib/pipeline/pass_step.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lib/analysis/targets.h"
#include "lib/support/check.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::pipeline {

namespace {

using nlohmann::json;

std::vector<std::string> typeNames(std::span<const PassInfo> registry) {
    std::vector<std::string> names;
    for (const PassInfo& info : registry)
        if (std::find(names.begin(), names.end(), info.type) == names.end()) names.push_back(info.type);
    return names;
}

std::vector<std::string> methodNames(const std::vector<const PassInfo*>& family) {
    std::vector<std::string> names;
    for (const PassInfo* info : family) names.push_back(info->method);
    return names;
}

const OptionSpec* findOption(const PassInfo& info, const std::string& key) {
    for (const OptionSpec& spec : info.options)
        if (spec.name == key || spec.name.starts_with(key + ".") ||
            std::find(spec.aliases.begin(), spec.aliases.end(), key) != spec.aliases.end())
            return &spec;
    return nullptr;
}

const PassInfo* defaultOf(const std::vector<const PassInfo*>& family) {
    for (const PassInfo* info : family)
        if (info->defaultMethod) return info;
    return family.size() == 1 ? family.front() : nullptr;
}

std::optional<std::string> textOf(const json& object, const char* key, const std::string& pointer,
                                  Diagnostics& diagnostics) {
    if (!object.contains(key)) return std::nullopt;
    if (!object[key].is_string()) {
        diagnostics.add(fmt::format("{}/{}", pointer, key),
                        fmt::format("must be a text, not {}", object[key].dump()));
        return std::nullopt;
    }
    return object[key].get<std::string>();
}

/// The pass, or null after adding a diagnostic. What cannot be read at all (a broken regular expression) is
/// thrown by the pass's constructor.
std::unique_ptr<Pass> makePass(const PassInfo& info, const OptionValues& values, const std::string& pointer,
                               Diagnostics& diagnostics) {
    try {
        return info.make(values, pointer, diagnostics);
    } catch (const ConfigError& error) {
        diagnostics.add(pointer, error.what());
        return nullptr;
    }
}

bool takes(const PassInfo& info, const json& object) {
    Diagnostics scratch;
    const OptionValues values = parseOptions(info.options, object, "", scratch, commonPassKeys());
    if (scratch.empty()) makePass(info, values, "", scratch);
    return scratch.empty();
}

/// Which method an object means; null after adding a diagnostic.
const PassInfo* findMethod(const json& object, std::span<const PassInfo> registry, const std::string& pointer,
                           Diagnostics& diagnostics) {
    const std::size_t before = diagnostics.entries().size();
    std::optional<std::string> type = textOf(object, "type", pointer, diagnostics);
    std::optional<std::string> method = textOf(object, "method", pointer, diagnostics);
    if (diagnostics.entries().size() != before) return nullptr;
    if (!type) {
        diagnostics.add(pointer,
                        fmt::format("'type' is missing: one of {}", fmt::join(typeNames(registry), ", ")));
        return nullptr;
    }
    if (const std::size_t slash = type->find('/'); slash != std::string::npos && !method) {
        method = type->substr(slash + 1);
        type = type->substr(0, slash);
    }
    std::replace(type->begin(), type->end(), '_', '-');
    const std::vector<const PassInfo*> family = familyOf(registry, *type);
    if (family.empty()) {
        const std::vector<std::string> names = typeNames(registry);
        diagnostics.add(
            pointer + "/type",
            fmt::format("no pass is called '{}'{}", *type,
                        didYouMeanOr(*type, names, fmt::format("there are {}", fmt::join(names, ", ")))));
        return nullptr;
    }
    if (method) {
        for (const PassInfo* info : family)
            if (info->method == *method) return info;
        std::vector<std::string> names = methodNames(family);
        diagnostics.add(pointer + "/method",
                        names == std::vector<std::string>{""}
                            ? fmt::format("'{}' has one method only; leave 'method' out", *type)
                            : fmt::format("'{}' has no method '{}'{}", *type, *method,
                                          didYouMeanOr(*method, names,
                                                       fmt::format("there are {}", fmt::join(names, ", ")))));
        return nullptr;
    }
    const PassInfo* fallback = defaultOf(family);
    if (fallback == nullptr) {
        diagnostics.add(pointer,
                        fmt::format("'method' is missing: one of {}", fmt::join(methodNames(family), ", ")));
        return nullptr;
    }
    return fallback;
}

/// Prunes by what is pruned: {"type": "prune", "structure": "neuron"} is {"type": "prune", "method":
/// "neuron"}. A structure that is no method's name stays as it is.
json withMethodOfStructure(json object, std::span<const PassInfo> registry) {
    if (!object.contains("type") || !object["type"].is_string()) return object;
    if (!object.contains("structure") || !object["structure"].is_string()) return object;
    const std::string structure = object["structure"];
    for (const PassInfo* info : familyOf(registry, object["type"].get<std::string>())) {
        if (!selectedByStructure(*info, registry) || info->method != structure) continue;
        if (!object.contains("method")) object["method"] = structure;
        if (object["method"] == structure) object.erase("structure");
    }
    return object;
}

/// Another method of the family that takes the object as it is: what the user probably meant.
const PassInfo* methodThatTakes(const json& object, const PassInfo& tried,
                                std::span<const PassInfo> registry) {
    for (const PassInfo* info : familyOf(registry, tried.type))
        if (info != &tried && takes(*info, object)) return info;
    return nullptr;
}

/// Whether an option was given that the pass does not have.
bool hasForeignOption(const PassInfo& info, const json& object) {
    for (const auto& [key, value] : object.items()) {
        const auto& common = commonPassKeys();
        const bool isCommon =
            key == "type" || key == "method" || std::find(common.begin(), common.end(), key) != common.end();
        if (!isCommon && findOption(info, key) == nullptr) return true;
    }
    return false;
}

/// Patterns that can never be read (a broken regular expression, an unknown role), before any model is.
void checkPatterns(const PassInfo& info, const OptionValues& options, const std::string& pointer,
                   Diagnostics& diagnostics) {
    for (std::size_t i = 0; i < info.options.size(); ++i) {
        const std::string& name = info.options[i].name;
        const auto* patterns = std::get_if<std::vector<std::string>>(&options[i]);
        if (patterns == nullptr || (name != "targets" && name != "ignore")) continue;
        try {
            analysis::SitePatterns(*patterns, {});
        } catch (const ConfigError& error) {
            diagnostics.add(fmt::format("{}/{}", pointer, name), error.what());
        }
    }
}

struct StepSettings {
    bool allowEmpty = false;
};

bool readAllowEmpty(const json& object, const std::string& pointer, Diagnostics& diagnostics) {
    if (!object.contains("allow_empty")) return false;
    OptionTable<StepSettings> table;
    table.option("allow_empty", &StepSettings::allowEmpty, "finding nothing to change is no error");
    return table.parse(json{{"allow_empty", object["allow_empty"]}}, pointer, diagnostics).allowEmpty;
}

}  // namespace

std::string fullName(const PassInfo& info) {
    return info.method.empty() ? info.type : fmt::format("{}/{}", info.type, info.method);
}

std::string PassStep::name() const { return fullName(*info); }

const std::vector<std::string>& commonPassKeys() {
    static const std::vector<std::string> keys = {"allow_empty", "comment"};
    return keys;
}

std::vector<const PassInfo*> familyOf(std::span<const PassInfo> registry, const std::string& type) {
    std::vector<const PassInfo*> family;
    for (const PassInfo& info : registry)
        if (info.type == type) family.push_back(&info);
    return family;
}

bool selectedByStructure(const PassInfo& info, std::span<const PassInfo> registry) {
    if (info.method.empty() || findOption(info, "structure") != nullptr) return false;
    const PassInfo* fallback = defaultOf(familyOf(registry, info.type));
    return fallback != nullptr && fallback != &info && findOption(*fallback, "structure") != nullptr;
}

PassStep resolvePass(const json& given, std::span<const PassInfo> registry, const std::string& pointer,
                     Diagnostics& diagnostics) {
    PassStep step;
    if (!given.is_object()) {
        diagnostics.add(pointer, fmt::format("must be an object such as {{\"type\": \"quantize\"}}, not {}",
                                             given.dump()));
        return step;
    }
    const json object = withMethodOfStructure(given, registry);
    step.info = findMethod(object, registry, pointer, diagnostics);
    if (step.info == nullptr) return step;
    const bool methodNamed = object.contains("method");
    Diagnostics problems;
    step.options = parseOptions(step.info->options, object, pointer, problems, commonPassKeys());
    step.allowEmpty = readAllowEmpty(object, pointer, problems);
    checkPatterns(*step.info, step.options, pointer, problems);
    const bool readable = problems.empty();
    if (readable) step.pass = makePass(*step.info, step.options, pointer, problems);
    if (problems.empty()) {
        TCOMPRESS_CHECK(step.pass != nullptr, fmt::format("pass {} was not made", step.name()));
        return step;
    }
    step.pass = nullptr;
    for (const Diagnostic& problem : problems.entries()) diagnostics.add(problem.place, problem.message);
    // A method that was named is meant, unless the options are another's.
    const bool doubtful = !readable && (!methodNamed || hasForeignOption(*step.info, object));
    const PassInfo* other = doubtful ? methodThatTakes(object, *step.info, registry) : nullptr;
    if (other != nullptr && !methodNamed)
        diagnostics.add(pointer + "/method",
                        fmt::format("is not given, so '{}' was taken; '{}' takes these options",
                                    step.info->method, other->method));
    else if (other != nullptr)
        diagnostics.add(pointer + "/method", fmt::format("'{}' does not take these options; '{}' does",
                                                         step.info->method, other->method));
    return step;
}

json stepJson(const PassStep& step) {
    json object = optionJson(step.info->options, step.options);
    object["type"] = step.info->type;
    if (!step.info->method.empty()) object["method"] = step.info->method;
    if (step.allowEmpty) object["allow_empty"] = true;
    return object;
}

}  // namespace tcompress::pipeline
