#pragma once
// The options of a command as plain data, declared once: the parser (cli.cpp), the help, the completions and
// the man page are all made of it.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tcompress::cli {

enum class OptionKind {
    flag,
    value,
    values,       ///< may be given several times
    positional,   ///< an argument by its place
    positionals,  ///< all the remaining arguments
};
enum class Presence { optional, required };
/// What a value that is given twice means.
enum class Repeat { lastCounts, refused };

struct OptionDeclaration {
    OptionKind kind = OptionKind::flag;
    std::vector<std::string> names;  ///< "-c", "--config"; the placeholder of a positional argument
    std::string placeholder;         ///< what it takes; empty for a flag
    std::string help;
    std::string group;
    Presence presence = Presence::optional;
    Repeat repeat = Repeat::lastCounts;
    std::vector<std::string> choices;  ///< allowed texts; empty = any
    std::string excludes;              ///< name of an option that may not be given beside this one
    std::function<void(const std::vector<std::string>&)> take;

    bool isPositional() const { return kind == OptionKind::positional || kind == OptionKind::positionals; }
};

struct IntegerRange {
    std::int64_t minimum, maximum;
};

class OptionList {
  public:
    /// Heading of the options declared from here on.
    void group(std::string name) { group_ = std::move(name); }

    /// `names` is written "-c,--config".
    OptionDeclaration& flag(const std::string& names, bool& target, std::string help);
    OptionDeclaration& flag(const std::string& names, std::function<void()> take, std::string help);
    OptionDeclaration& value(const std::string& names, std::string placeholder, std::string& target,
                             std::string help);
    OptionDeclaration& value(const std::string& names, std::string placeholder,
                             std::function<void(const std::string&)> take, std::string help);
    /// Refuses (ConfigError) what is no integer of the range. What `target` holds is the default; the help
    /// says so.
    OptionDeclaration& integer(const std::string& names, std::string placeholder, std::int64_t& target,
                               IntegerRange range, const std::string& help);
    OptionDeclaration& values(const std::string& names, std::string placeholder,
                              std::vector<std::string>& target, std::string help);
    OptionDeclaration& values(const std::string& names, std::string placeholder,
                              std::function<void(const std::string&)> takeOne, std::string help);
    OptionDeclaration& positional(std::string name, std::string& target, Presence presence, std::string help);
    OptionDeclaration& positionals(std::string name, std::vector<std::string>& target, Presence presence,
                                   std::string help);

    const std::vector<OptionDeclaration>& declarations() const { return declarations_; }

  private:
    OptionDeclaration& add(OptionKind kind, const std::string& names, std::string placeholder,
                           std::string help);

    std::string group_;
    std::vector<OptionDeclaration> declarations_;
};

}  // namespace tcompress::cli
