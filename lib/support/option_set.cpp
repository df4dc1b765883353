#include "lib/support/option_set.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lib/support/log.h"

namespace tcompress {

namespace {

using nlohmann::json;

/// One reference token of a JSON pointer (RFC 6901).
std::string escapePointer(const std::string& key) {
    std::string escaped;
    for (const char c : key) {
        if (c == '~')
            escaped += "~0";
        else if (c == '/')
            escaped += "~1";
        else
            escaped += c;
    }
    return escaped;
}

std::string numberText(double value) {
    if (value == std::floor(value) && std::abs(value) < 1e15)
        return fmt::format("{}", static_cast<std::int64_t>(value));
    return fmt::format("{}", value);
}

/// What a message calls a value: short, so that a whole array in the wrong place does not fill the screen.
std::string shown(const json& value) {
    std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
    constexpr std::size_t longest = 60;
    if (text.size() > longest) text = text.substr(0, longest) + "…";
    return text;
}

std::string rangeText(const OptionSpec& spec) {
    const bool low = std::isfinite(spec.minimum);
    const bool high = std::isfinite(spec.maximum);
    if (low && high && spec.minimum == spec.maximum) return numberText(spec.minimum);
    if (low && high) return fmt::format("from {} to {}", numberText(spec.minimum), numberText(spec.maximum));
    if (low) return fmt::format("at least {}", numberText(spec.minimum));
    if (high) return fmt::format("at most {}", numberText(spec.maximum));
    return "";
}

std::string typeText(OptionType type) {
    switch (type) {
        case OptionType::boolean:
            return "true or false";
        case OptionType::integer:
            return "an integer";
        case OptionType::number:
            return "a number";
        case OptionType::text:
            return "a text";
        case OptionType::textList:
            return "a list of texts";
        case OptionType::integerList:
            return "a list of integers";
    }
    return "";
}

std::vector<std::string> splitList(const std::string& text) {
    std::vector<std::string> items;
    std::size_t begin = 0;
    while (begin <= text.size()) {
        const std::size_t end = std::min(text.find('+', begin), text.size());
        if (end > begin) items.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return items;
}

template <class T>
std::optional<T> parseNumber(const std::string& text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// Reads one value of one option; problems go to the diagnostics.
class ValueReader {
  public:
    ValueReader(const OptionSpec& spec, std::string place, Diagnostics& diagnostics)
        : spec_(spec), place_(std::move(place)), diagnostics_(diagnostics) {}

    OptionValue read(const json& value) {
        OptionValue result;
        switch (spec_.type) {
            case OptionType::boolean:
                result = boolean(value);
                break;
            case OptionType::integer:
                assign(result, integer(value, place_));
                break;
            case OptionType::number:
                assign(result, number(value));
                break;
            case OptionType::text:
                assign(result, text(value, place_));
                break;
            case OptionType::textList:
                result = list<std::string>(value);
                break;
            case OptionType::integerList:
                result = list<std::int64_t>(value);
                break;
        }
        return result;
    }

  private:
    template <class T>
    static void assign(OptionValue& result, const std::optional<T>& value) {
        if (value) result = *value;
    }

    OptionValue boolean(const json& value) {
        if (value.is_boolean()) return value.get<bool>();
        if (value == "true" || value == "1" || value == "on" || value == "yes") return true;
        if (value == "false" || value == "0" || value == "off" || value == "no") return false;
        wrongType(value, place_);
        return {};
    }

    std::optional<std::int64_t> integer(const json& value, const std::string& place) {
        std::optional<std::int64_t> result;
        if (value.is_number_unsigned() &&
            value.get<std::uint64_t>() >
                static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
            diagnostics_.add(place, fmt::format("{} is larger than a 64-bit integer", shown(value)));
            return std::nullopt;
        }
        if (value.is_number_integer()) {
            result = value.get<std::int64_t>();
        } else if (value.is_number_float()) {
            const double given = value.get<double>();
            if (given == std::floor(given) && std::abs(given) <= 9007199254740992.0)
                result = static_cast<std::int64_t>(given);
        } else if (value.is_string()) {
            result = parseNumber<std::int64_t>(value.get<std::string>());
        }
        if (!result) {
            wrongType(value, place, OptionType::integer);
            return std::nullopt;
        }
        if (!inRange(static_cast<double>(*result), place)) return std::nullopt;
        return result;
    }

    std::optional<double> number(const json& value) {
        std::optional<double> result;
        if (value.is_number()) result = value.get<double>();
        if (value.is_string()) result = parseNumber<double>(value.get<std::string>());
        if (!result || !std::isfinite(*result)) {
            wrongType(value, place_);
            return std::nullopt;
        }
        if (!inRange(*result, place_)) return std::nullopt;
        return result;
    }

    std::optional<std::string> text(const json& value, const std::string& place) {
        if (!value.is_string()) {
            wrongType(value, place, OptionType::text);
            return std::nullopt;
        }
        std::string result = value.get<std::string>();
        const auto& choices = spec_.choices;
        if (!choices.empty() && std::find(choices.begin(), choices.end(), result) == choices.end()) {
            diagnostics_.add(place, fmt::format("'{}' is not one of {}{}", result, fmt::join(choices, ", "),
                                                didYouMean(result, choices)));
            return std::nullopt;
        }
        return result;
    }

    template <class T>
    OptionValue list(const json& value) {
        std::vector<json> items;
        if (value.is_array()) {
            items.assign(value.begin(), value.end());
        } else if (value.is_string()) {
            for (std::string& item : splitList(value.get<std::string>())) items.emplace_back(std::move(item));
        } else {
            items.push_back(value);
        }
        std::vector<T> result;
        bool good = true;
        for (std::size_t i = 0; i < items.size(); ++i) {
            const std::string place = value.is_array() ? fmt::format("{}/{}", place_, i) : place_;
            std::optional<T> item;
            if constexpr (std::is_same_v<T, std::string>)
                item = text(items[i], place);
            else
                item = integer(items[i], place);
            if (item)
                result.push_back(std::move(*item));
            else
                good = false;
        }
        if (!good) return {};
        return result;
    }

    bool inRange(double value, const std::string& place) {
        if (value >= spec_.minimum && value <= spec_.maximum) return true;
        diagnostics_.add(place, fmt::format("must be {}, not {}", rangeText(spec_), numberText(value)));
        return false;
    }

    void wrongType(const json& value, const std::string& place) { wrongType(value, place, spec_.type); }
    void wrongType(const json& value, const std::string& place, OptionType expected) {
        diagnostics_.add(place, fmt::format("must be {}, not {}", typeText(expected), shown(value)));
    }

    const OptionSpec& spec_;
    std::string place_;
    Diagnostics& diagnostics_;
};

const OptionSpec* findSpec(const std::vector<OptionSpec>& specs, const std::string& key) {
    for (const OptionSpec& spec : specs) {
        if (spec.name == key) return &spec;
        if (std::find(spec.aliases.begin(), spec.aliases.end(), key) != spec.aliases.end()) return &spec;
    }
    return nullptr;
}

bool isSkipped(const std::string& key, const std::vector<std::string>& ignored) {
    return key == "type" || key == "method" ||
           std::find(ignored.begin(), ignored.end(), key) != ignored.end();
}

std::string unknownKey(const std::string& key, const std::vector<OptionSpec>& specs,
                       const std::vector<std::string>& ignored) {
    std::vector<std::string> names;
    for (const OptionSpec& spec : specs) names.push_back(spec.name);
    std::vector<std::string> candidates = names;
    for (const OptionSpec& spec : specs)
        candidates.insert(candidates.end(), spec.aliases.begin(), spec.aliases.end());
    candidates.insert(candidates.end(), ignored.begin(), ignored.end());
    if (candidates.empty()) return fmt::format("unknown option '{}'; there are none", key);
    names.insert(names.end(), ignored.begin(), ignored.end());
    return fmt::format("unknown option '{}'{}", key,
                       didYouMeanOr(key, candidates, fmt::format("there are {}", fmt::join(names, ", "))));
}

/// The object that an option with a dot in its name is a member of: "target" of "target.speedup"; else empty.
std::string objectOf(const std::string& name) {
    const std::size_t dot = name.find('.');
    return dot == std::string::npos ? std::string() : name.substr(0, dot);
}

bool isObjectOfOptions(const std::vector<OptionSpec>& specs, const std::string& key) {
    return std::any_of(specs.begin(), specs.end(),
                       [&](const OptionSpec& spec) { return !key.empty() && objectOf(spec.name) == key; });
}

json valueJson(const OptionValue& value) {
    return std::visit(
        [](const auto& held) -> json {
            if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>)
                return nullptr;
            else
                return held;
        },
        value);
}

void addBounds(json& schema, const OptionSpec& spec) {
    const auto bound = [&](double value) -> json {
        if (spec.type == OptionType::number) return value;
        return static_cast<std::int64_t>(value);
    };
    if (std::isfinite(spec.minimum)) schema["minimum"] = bound(spec.minimum);
    if (std::isfinite(spec.maximum)) schema["maximum"] = bound(spec.maximum);
}

json typeSchema(const OptionSpec& spec) {
    json item;
    switch (spec.type) {
        case OptionType::boolean:
            item = {{"type", "boolean"}};
            break;
        case OptionType::integer:
        case OptionType::integerList:
            item = {{"type", "integer"}};
            break;
        case OptionType::number:
            item = {{"type", "number"}};
            break;
        case OptionType::text:
        case OptionType::textList:
            item = {{"type", "string"}};
            break;
    }
    if (!spec.choices.empty()) item["enum"] = spec.choices;
    if (spec.type != OptionType::boolean) addBounds(item, spec);
    if (spec.type == OptionType::textList || spec.type == OptionType::integerList)
        return json{{"anyOf", json::array({json{{"type", "array"}, {"items", item}}, item})}};
    return item;
}

std::string defaultText(const OptionSpec& spec) {
    const json value = valueJson(spec.defaultValue);
    if (value.is_null() || (value.is_array() && value.empty()) || value == "") return "";
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number_float()) return numberText(value.get<double>());
    return value.dump();
}

}  // namespace

OptionValues parseOptions(const std::vector<OptionSpec>& specs, const json& object,
                          const std::string& pointer, Diagnostics& diagnostics,
                          const std::vector<std::string>& ignored) {
    OptionValues values(specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i) values[i] = specs[i].defaultValue;
    if (!object.is_object()) {
        diagnostics.add(pointer, fmt::format("must be an object, not {}", shown(object)));
        return values;
    }
    std::vector<std::string> givenAs(specs.size());
    const auto read = [&](const std::string& key, const json& value, const std::string& place) {
        if (isSkipped(key, ignored) && findSpec(specs, key) == nullptr) return;
        const OptionSpec* spec = findSpec(specs, key);
        if (spec == nullptr) {
            diagnostics.add(place, unknownKey(key, specs, ignored));
            return;
        }
        const auto index = static_cast<std::size_t>(spec - specs.data());
        if (!givenAs[index].empty()) {
            diagnostics.add(place, fmt::format("'{}' and '{}' name the same option", givenAs[index], key));
            return;
        }
        if (value.is_null()) return;
        givenAs[index] = key;
        if (key != spec->name) log::info("{}: read as '{}'", place, spec->name);
        OptionValue parsed = ValueReader(*spec, place, diagnostics).read(value);
        if (!std::holds_alternative<std::monostate>(parsed)) values[index] = std::move(parsed);
    };
    for (const auto& [key, value] : object.items()) {
        const std::string place = pointer + "/" + escapePointer(key);
        if (!value.is_object() || !isObjectOfOptions(specs, key)) {
            read(key, value, place);
            continue;
        }
        for (const auto& [member, inner] : value.items())
            read(fmt::format("{}.{}", key, member), inner, place + "/" + escapePointer(member));
    }
    for (std::size_t i = 0; i < specs.size(); ++i)
        if (specs[i].required && givenAs[i].empty())
            diagnostics.add(pointer, fmt::format("'{}' is missing: {}", specs[i].name, specs[i].help));
    return values;
}

json optionSchema(const std::vector<OptionSpec>& specs) {
    json properties = json::object();
    for (const OptionSpec& spec : specs) {
        json schema = typeSchema(spec);
        schema["description"] = spec.unit.empty() ? spec.help : fmt::format("{} ({})", spec.help, spec.unit);
        if (!std::holds_alternative<std::monostate>(spec.defaultValue))
            schema["default"] = valueJson(spec.defaultValue);
        if (const std::string object = objectOf(spec.name); !object.empty()) {
            json& outer = properties[object];
            outer["type"] = "object";
            outer["additionalProperties"] = false;
            outer["properties"][spec.name.substr(object.size() + 1)] = schema;
            continue;
        }
        properties[spec.name] = schema;
        for (const std::string& alias : spec.aliases) {
            json aliasSchema = typeSchema(spec);
            aliasSchema["description"] = fmt::format("the same as {}", spec.name);
            properties[alias] = std::move(aliasSchema);
        }
    }
    return properties;
}

json optionJson(const std::vector<OptionSpec>& specs, const OptionValues& values) {
    json object = json::object();
    for (std::size_t i = 0; i < specs.size() && i < values.size(); ++i)
        if (!std::holds_alternative<std::monostate>(values[i])) {
            const std::string& name = specs[i].name;
            const std::string outer = objectOf(name);
            (outer.empty() ? object[name] : object[outer][name.substr(outer.size() + 1)]) = valueJson(values[i]);
        }
    return object;
}

std::string optionDomain(const OptionSpec& spec) {
    std::string text;
    switch (spec.type) {
        case OptionType::boolean:
            text = "true|false";
            break;
        case OptionType::integer:
            text = "integer";
            break;
        case OptionType::number:
            text = "number";
            break;
        case OptionType::text:
            text = spec.choices.empty() ? "text" : fmt::format("{}", fmt::join(spec.choices, "|"));
            break;
        case OptionType::textList:
            text = "list of texts";
            break;
        case OptionType::integerList:
            text = "list of integers";
            break;
    }
    if (const std::string range = rangeText(spec); !range.empty()) text += " " + range;
    if (!spec.unit.empty()) text += " " + spec.unit;
    if (spec.required)
        text += ", required";
    else if (const std::string value = defaultText(spec); !value.empty())
        text += ", default " + value;
    return text;
}

std::string describeOptions(const std::vector<OptionSpec>& specs) {
    std::string text;
    for (const OptionSpec& spec : specs) {
        std::string name = spec.name;
        if (!spec.aliases.empty()) name += fmt::format(" ({})", fmt::join(spec.aliases, ", "));
        text += fmt::format("  {}: {}\n      {}\n", name, optionDomain(spec), spec.help);
    }
    return text;
}

}  // namespace tcompress
