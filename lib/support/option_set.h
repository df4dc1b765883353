#pragma once
// An option is said once: name, type, range, default and help in one declaration bound to a member of an
// options struct. From it come parsing with every error at once, the JSON Schema, `tcompress passes NAME` and
// the documentation.
//
//   struct Options { double ratio = 0.0; Scope scope = Scope::layer; std::vector<std::string> targets; };
//   OptionTable<Options> table;
//   table.option("ratio", &Options::ratio, "share of the heads to remove").range(0.0, 1.0)
//        .option("scope", &Options::scope, "what the ratio is a share of").choices<Scope>({{"layer",
//        Scope::layer}, …});
//   Options options = table.parse(json, "/passes/0", diagnostics);

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "lib/support/diagnostics.h"

namespace tcompress {

enum class OptionType { boolean, integer, number, text, textList, integerList };

/// monostate: not given (an optional member without default).
using OptionValue = std::variant<std::monostate, bool, std::int64_t, double, std::string,
                                 std::vector<std::string>, std::vector<std::int64_t>>;

struct OptionSpec {
    std::string name;
    std::vector<std::string> aliases;  ///< other names the field uses; accepted, with a note in the log
    OptionType type = OptionType::text;
    std::string help;
    std::string unit;
    OptionValue defaultValue;
    bool required = false;
    double minimum = -std::numeric_limits<double>::infinity();
    double maximum = std::numeric_limits<double>::infinity();
    std::vector<std::string> choices;  ///< allowed texts; empty = any
};

/// A checked value for each option that was given or has a default, in the order of the specs.
using OptionValues = std::vector<OptionValue>;

/// Reads a JSON object (or the text of a one-liner, where every value is a string) against the specs. Unknown
/// keys, wrong types, values out of range each add a diagnostic at `pointer`/key with a suggestion; "type",
/// "method" and keys in `ignored` are skipped. Strings are accepted for numbers and booleans (one-liners), a
/// single value for a list; in a one-liner list items are separated by '+'.
OptionValues parseOptions(const std::vector<OptionSpec>& specs, const nlohmann::json& object,
                          const std::string& pointer, Diagnostics& diagnostics,
                          const std::vector<std::string>& ignored = {});

/// JSON Schema (draft 2020-12) "properties" of the specs.
nlohmann::json optionSchema(const std::vector<OptionSpec>& specs);
/// The resolved values as a JSON object (what the report embeds).
nlohmann::json optionJson(const std::vector<OptionSpec>& specs, const OptionValues& values);
/// What an option takes: "number from 0 to 1, default 0.5".
std::string optionDomain(const OptionSpec& spec);
/// Two lines an option, for help: "  ratio: number from 0 to 1, default 0.5" and, indented, what it is.
std::string describeOptions(const std::vector<OptionSpec>& specs);

namespace detail {
template <class T>
struct OptionTraits;
template <>
struct OptionTraits<bool> {
    static constexpr OptionType type = OptionType::boolean;
    using Stored = bool;
};
template <>
struct OptionTraits<std::int64_t> {
    static constexpr OptionType type = OptionType::integer;
    using Stored = std::int64_t;
};
template <>
struct OptionTraits<double> {
    static constexpr OptionType type = OptionType::number;
    using Stored = double;
};
template <>
struct OptionTraits<std::string> {
    static constexpr OptionType type = OptionType::text;
    using Stored = std::string;
};
template <>
struct OptionTraits<std::vector<std::string>> {
    static constexpr OptionType type = OptionType::textList;
    using Stored = std::vector<std::string>;
};
template <>
struct OptionTraits<std::vector<std::int64_t>> {
    static constexpr OptionType type = OptionType::integerList;
    using Stored = std::vector<std::int64_t>;
};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
}  // namespace detail

template <class Options>
class OptionTable {
  public:
    /// Member types: bool, std::int64_t, double, std::string, vectors of std::string or std::int64_t, and
    /// std::optional of these (no default). The default is the member's value in a default-made Options.
    template <class T>
    OptionTable& option(std::string name, T Options::*member, std::string help) {
        OptionSpec spec;
        spec.name = std::move(name);
        spec.help = std::move(help);
        const T initial = Options{}.*member;
        if constexpr (detail::IsOptional<T>::value) {
            using Inner = typename T::value_type;
            spec.type = detail::OptionTraits<Inner>::type;
            setters_.push_back([member](Options& target, const OptionValue& value) {
                if (const auto* given = std::get_if<Inner>(&value)) target.*member = *given;
            });
            getters_.push_back([member](const Options& source) -> OptionValue {
                if (source.*member) return *(source.*member);
                return {};
            });
        } else {
            spec.type = detail::OptionTraits<T>::type;
            spec.defaultValue = initial;
            setters_.push_back([member](Options& target, const OptionValue& value) {
                if (const auto* given = std::get_if<T>(&value)) target.*member = *given;
            });
            getters_.push_back([member](const Options& source) -> OptionValue { return source.*member; });
        }
        specs_.push_back(std::move(spec));
        return *this;
    }
    /// A member of an enumeration type, written as one of the given texts.
    template <class E>
    OptionTable& choice(std::string name, E Options::*member, std::vector<std::pair<std::string, E>> names,
                        std::string help) {
        OptionSpec spec;
        spec.name = std::move(name);
        spec.help = std::move(help);
        spec.type = OptionType::text;
        const E initial = Options{}.*member;
        for (const auto& [text, value] : names) {
            spec.choices.push_back(text);
            if (value == initial) spec.defaultValue = text;
        }
        getters_.push_back([member, names](const Options& source) -> OptionValue {
            for (const auto& [text, item] : names)
                if (item == source.*member) return text;
            return {};
        });
        setters_.push_back([member, names = std::move(names)](Options& target, const OptionValue& value) {
            if (const auto* given = std::get_if<std::string>(&value))
                for (const auto& [text, item] : names)
                    if (text == *given) target.*member = item;
        });
        specs_.push_back(std::move(spec));
        return *this;
    }
    // These refine the option declared last.
    OptionTable& range(double minimum, double maximum) {
        specs_.back().minimum = minimum;
        specs_.back().maximum = maximum;
        return *this;
    }
    OptionTable& alias(std::string name) {
        specs_.back().aliases.push_back(std::move(name));
        return *this;
    }
    OptionTable& required() {
        specs_.back().required = true;
        return *this;
    }

    const std::vector<OptionSpec>& specs() const { return specs_; }

    Options fill(const OptionValues& values) const {
        Options options;
        for (std::size_t i = 0; i < values.size(); ++i) setters_[i](options, values[i]);
        return options;
    }
    /// The inverse of fill().
    OptionValues read(const Options& options) const {
        OptionValues values;
        for (const auto& getter : getters_) values.push_back(getter(options));
        return values;
    }
    Options parse(const nlohmann::json& object, const std::string& pointer, Diagnostics& diagnostics) const {
        return fill(parseOptions(specs_, object, pointer, diagnostics));
    }

  private:
    std::vector<OptionSpec> specs_;
    std::vector<std::function<void(Options&, const OptionValue&)>> setters_;
    std::vector<std::function<OptionValue(const Options&)>> getters_;
};

}  // namespace tcompress
