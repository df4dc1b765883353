#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <vector>

#include "lib/report/describe.h"

namespace tcompress::report {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json toValue(const T& value);
template <class T>
Json toValue(const std::vector<T>& values);
template <class T>
Json toValue(const std::map<std::string, T>& values);

class JsonWriter {
  public:
    void type(std::string_view, std::string_view) {}
    template <class T>
    void field(std::string_view key, const T& value, std::string_view) {
        object_[std::string(key)] = toValue(value);
    }
    template <class T>
    void present(std::string_view key, const T& value, bool isThere, std::string_view help) {
        if (isThere) field(key, value, help);
    }
    template <class T>
    void present(std::string_view key, const std::optional<T>& value, std::string_view help) {
        if (value) field(key, *value, help);
    }
    void embedded(std::string_view key, const std::string& text, std::string_view) {
        if (!text.empty()) object_[std::string(key)] = Json::parse(text);
    }
    template <std::size_t N>
    void choice(std::string_view key, std::size_t index, const std::array<std::string_view, N>& names,
                std::string_view) {
        object_[std::string(key)] = names.at(index);
    }
    Json take() { return std::move(object_); }

  private:
    Json object_ = Json::object();
};

template <class T>
Json toValue(const std::vector<T>& values) {
    Json array = Json::array();
    for (const T& value : values) array.push_back(toValue(value));
    return array;
}

template <class T>
Json toValue(const std::map<std::string, T>& values) {
    Json object = Json::object();
    for (const auto& [key, value] : values) object[key] = toValue(value);
    return object;
}

template <class T>
Json toValue(const T& value) {
    if constexpr (std::is_floating_point_v<T>) {
        return std::isfinite(value) ? Json(value) : Json();
    } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
        return value;
    } else {
        JsonWriter writer;
        describe(writer, value);
        return writer.take();
    }
}

}  // namespace

std::string toJson(const Report& report) {
    // Names in models may hold bytes that are no UTF-8.
    return toValue(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tcompress::report
