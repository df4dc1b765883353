#include "apps/tcompress/option_list.h"

#include <fmt/core.h>

#include <charconv>
#include <sstream>

#include "lib/support/error.h"

namespace tcompress::cli {

namespace {

std::vector<std::string> splitNames(const std::string& names) {
    std::vector<std::string> parts;
    std::istringstream stream(names);
    for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
    return parts;
}

std::int64_t parseInteger(const std::string& name, const std::string& text, IntegerRange range) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < range.minimum ||
        value > range.maximum)
        throw ConfigError(fmt::format("{}: must be an integer from {} to {}, not '{}'", name, range.minimum,
                                      range.maximum, text));
    return value;
}

}  // namespace

OptionDeclaration& OptionList::add(OptionKind kind, const std::string& names, std::string placeholder,
                                   std::string help) {
    OptionDeclaration declaration;
    declaration.kind = kind;
    declaration.names = splitNames(names);
    declaration.placeholder = std::move(placeholder);
    declaration.help = std::move(help);
    declaration.group = group_;
    declarations_.push_back(std::move(declaration));
    return declarations_.back();
}

OptionDeclaration& OptionList::flag(const std::string& names, bool& target, std::string help) {
    return flag(
        names, [&target] { target = true; }, std::move(help));
}

OptionDeclaration& OptionList::flag(const std::string& names, std::function<void()> take, std::string help) {
    OptionDeclaration& declaration = add(OptionKind::flag, names, "", std::move(help));
    declaration.take = [take = std::move(take)](const std::vector<std::string>&) { take(); };
    return declaration;
}

OptionDeclaration& OptionList::value(const std::string& names, std::string placeholder, std::string& target,
                                     std::string help) {
    return value(
        names, std::move(placeholder), [&target](const std::string& text) { target = text; },
        std::move(help));
}

OptionDeclaration& OptionList::value(const std::string& names, std::string placeholder,
                                     std::function<void(const std::string&)> take, std::string help) {
    OptionDeclaration& declaration = add(OptionKind::value, names, std::move(placeholder), std::move(help));
    declaration.take = [take = std::move(take)](const std::vector<std::string>& texts) {
        take(texts.back());
    };
    return declaration;
}

OptionDeclaration& OptionList::integer(const std::string& names, std::string placeholder,
                                       std::int64_t& target, IntegerRange range, const std::string& help) {
    const std::string name = splitNames(names).back();
    return value(
        names, std::move(placeholder),
        [&target, name, range](const std::string& text) { target = parseInteger(name, text, range); },
        fmt::format("{}; default {}", help, target));
}

OptionDeclaration& OptionList::values(const std::string& names, std::string placeholder,
                                      std::vector<std::string>& target, std::string help) {
    return values(
        names, std::move(placeholder), [&target](const std::string& text) { target.push_back(text); },
        std::move(help));
}

OptionDeclaration& OptionList::values(const std::string& names, std::string placeholder,
                                      std::function<void(const std::string&)> takeOne, std::string help) {
    OptionDeclaration& declaration =
        add(OptionKind::values, names, std::move(placeholder), help + "; may be given several times");
    declaration.take = [takeOne = std::move(takeOne)](const std::vector<std::string>& texts) {
        for (const std::string& text : texts) takeOne(text);
    };
    return declaration;
}

OptionDeclaration& OptionList::positional(std::string name, std::string& target, Presence presence,
                                          std::string help) {
    OptionDeclaration& declaration = add(OptionKind::positional, name, name, std::move(help));
    declaration.presence = presence;
    declaration.take = [&target](const std::vector<std::string>& texts) { target = texts.back(); };
    return declaration;
}

OptionDeclaration& OptionList::positionals(std::string name, std::vector<std::string>& target,
                                           Presence presence, std::string help) {
    OptionDeclaration& declaration = add(OptionKind::positionals, name, name, std::move(help));
    declaration.presence = presence;
    declaration.take = [&target](const std::vector<std::string>& texts) { target = texts; };
    return declaration;
}

}  // namespace tcompress::cli
