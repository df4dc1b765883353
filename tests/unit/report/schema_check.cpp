#include "tests/unit/report/schema_check.h"

namespace tcompress::report {
namespace {

using nlohmann::json;

bool isOfType(const json& value, const std::string& type) {
    if (type == "null") return value.is_null();
    if (type == "boolean") return value.is_boolean();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "string") return value.is_string();
    if (type == "array") return value.is_array();
    return type == "object" && value.is_object();
}

class Checker {
  public:
    explicit Checker(const json& root) : root_(root) {}

    void check(const json& schema, const json& value, const std::string& place) {
        if (schema.contains("$ref"))
            return check(root_.at(json::json_pointer(schema["$ref"].get<std::string>().substr(1))), value,
                         place);
        if (schema.contains("enum")) {
            bool known = false;
            for (const json& name : schema["enum"]) known |= name == value;
            if (!known) problems.push_back(place + ": is none of the names");
            return;
        }
        bool typed = false;
        const json types = schema["type"].is_array() ? schema["type"] : json::array({schema["type"]});
        for (const json& type : types) typed |= isOfType(value, type.get<std::string>());
        if (!typed) {
            problems.push_back(place + ": is no " + types.dump());
            return;
        }
        if (value.is_array())
            for (std::size_t i = 0; i < value.size(); ++i)
                check(schema["items"], value[i], place + "/" + std::to_string(i));
        if (value.is_object()) checkObject(schema, value, place);
    }

    std::vector<std::string> problems;

  private:
    void checkObject(const json& schema, const json& value, const std::string& place) {
        const json none = json::object();
        const json& properties = schema.contains("properties") ? schema["properties"] : none;
        if (schema.contains("required"))
            for (const json& key : schema["required"])
                if (!value.contains(key.get<std::string>()))
                    problems.push_back(place + ": lacks " + key.dump());
        const bool open = !schema.contains("properties") && !schema.contains("additionalProperties");
        for (const auto& [key, item] : value.items()) {
            if (properties.contains(key)) {
                check(properties[key], item, place + "/" + key);
            } else if (schema.contains("additionalProperties")) {
                check(schema["additionalProperties"], item, place + "/" + key);
            } else if (!open) {
                problems.push_back(place + ": unknown key " + key);
            }
        }
    }

    const json& root_;
};

}  // namespace

std::vector<std::string> schemaProblems(const nlohmann::json& schema, const nlohmann::json& value) {
    Checker checker(schema);
    checker.check(schema, value, "");
    return checker.problems;
}

}  // namespace tcompress::report
