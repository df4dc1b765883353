#include <map>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <vector>

#include "lib/report/describe.h"

namespace tcompress::report {
namespace {

using Json = nlohmann::ordered_json;

class SchemaWriter {
  public:
    explicit SchemaWriter(Json& definitions) : definitions_(definitions) {}

    void type(std::string_view name, std::string_view help) {
        name_ = name;
        schema_ = {{"description", help},
                   {"type", "object"},
                   {"required", Json::array()},
                   {"properties", Json::object()}};
    }
    template <class T>
    void field(std::string_view key, const T&, std::string_view help) {
        add(key, schemaOf(static_cast<const T*>(nullptr)), help);
        schema_["required"].push_back(key);
    }
    template <class T>
    void present(std::string_view key, const T&, bool, std::string_view help) {
        add(key, schemaOf(static_cast<const T*>(nullptr)), help);
    }
    template <class T>
    void present(std::string_view key, const std::optional<T>&, std::string_view help) {
        add(key, schemaOf(static_cast<const T*>(nullptr)), help);
    }
    void embedded(std::string_view key, const std::string&, std::string_view help) {
        add(key, {{"type", "object"}}, help);
    }
    template <std::size_t N>
    void choice(std::string_view key, std::size_t, const std::array<std::string_view, N>& names,
                std::string_view help) {
        add(key, {{"enum", names}}, help);
        schema_["required"].push_back(key);
    }

    /// {"$ref": …} to the schema of T, which is entered into the definitions when it is not there yet.
    template <class T>
    static Json reference(Json& definitions) {
        SchemaWriter writer(definitions);
        describe(writer, T{});
        if (!definitions.contains(writer.name_)) definitions[writer.name_] = std::move(writer.schema_);
        return {{"$ref", "#/$defs/" + writer.name_}};
    }

  private:
    void add(std::string_view key, Json schema, std::string_view help) {
        schema["description"] = help;
        schema_["properties"][std::string(key)] = std::move(schema);
    }
    template <class T>
    Json schemaOf(const std::vector<T>*) {
        return {{"type", "array"}, {"items", schemaOf(static_cast<const T*>(nullptr))}};
    }
    template <class T>
    Json schemaOf(const std::map<std::string, T>*) {
        return {{"type", "object"}, {"additionalProperties", schemaOf(static_cast<const T*>(nullptr))}};
    }
    template <class T>
    Json schemaOf(const T*) {
        if constexpr (std::is_same_v<T, bool>) {
            return {{"type", "boolean"}};
        } else if constexpr (std::is_integral_v<T>) {
            return {{"type", "integer"}};
        } else if constexpr (std::is_floating_point_v<T>) {
            return {{"type", {"number", "null"}}};
        } else if constexpr (std::is_same_v<T, std::string>) {
            return {{"type", "string"}};
        } else {
            return reference<T>(definitions_);
        }
    }

    Json& definitions_;
    std::string name_;
    Json schema_;
};

}  // namespace

std::string jsonSchema() {
    Json definitions = Json::object();
    const Json root = SchemaWriter::reference<Report>(definitions);
    Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                   {"title", "tcompress report"}};
    schema["$ref"] = root["$ref"];
    schema["$defs"] = std::move(definitions);
    return schema.dump(2) + "\n";
}

}  // namespace tcompress::report
