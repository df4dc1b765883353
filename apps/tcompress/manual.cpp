#include "apps/tcompress/manual.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <utility>

namespace tcompress::cli {

namespace {

constexpr std::pair<const char*, const char*> kExitCodes[] = {
    {"0", "done"},
    {"1", "a constraint was missed; the output is written"},
    {"2", "the command line or the pipeline file is wrong"},
    {"3", "a model or data cannot be used, or a pass cannot do what was asked"},
    {"4", "an error of tcompress itself"},
    {"130", "interrupted"},
};

/// A text in a roff page: hyphens as they are typed, backslashes kept, no line that begins with a control
/// character.
std::string roff(const std::string& text) {
    std::string result;
    for (const char c : text) {
        if (c == '\\')
            result += "\\e";
        else if (c == '-')
            result += "\\-";
        else
            result += c;
    }
    if (result.starts_with(".") || result.starts_with("'")) result = "\\&" + result;
    return result;
}

std::string optionEntries(const OptionList& options) {
    std::string text;
    for (const OptionDeclaration& option : options.declarations()) {
        text += fmt::format(".TP\n\\fB{}\\fR", roff(fmt::format("{}", fmt::join(option.names, ", "))));
        if (!option.isPositional() && !option.placeholder.empty())
            text += fmt::format(" \\fI{}\\fR", roff(option.placeholder));
        text += "\n" + roff(option.help) + "\n";
    }
    return text;
}

std::string nameText(const OptionDeclaration& option) {
    std::string text = fmt::format("{}", fmt::join(option.names, ", "));
    if (!option.isPositional() && !option.placeholder.empty()) text += " " + option.placeholder;
    return text;
}

std::string cell(const std::string& text) {
    std::string escaped;
    for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
    return escaped;
}

/// A summary as a sentence of its own.
std::string sentence(std::string text) {
    if (!text.empty()) text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
    return text + ".";
}

std::string synopsis(const Command& command) {
    std::string text = "tcompress " + command.name;
    for (const OptionDeclaration& option : command.options.declarations())
        if (option.isPositional())
            text += option.presence == Presence::required ? " " + option.placeholder
                                                          : " [" + option.placeholder + "]";
    return text + " [OPTION]…";
}

std::string optionTable(const OptionList& options) {
    std::string text = "| option | meaning |\n|---|---|\n";
    for (const OptionDeclaration& option : options.declarations())
        text +=
            fmt::format("| `{}` | {}{} |\n", nameText(option), cell(option.help),
                        option.presence == Presence::required && !option.isPositional() ? " (required)" : "");
    return text;
}

constexpr std::size_t kHelpWidth = 100;
constexpr std::size_t kHelpColumn = 30;

/// "  NAMES        TEXT", the text wrapped into a column of its own.
std::string helpEntry(const std::string& names, const std::string& text) {
    std::string entry = "  " + names;
    entry += entry.size() + 2 > kHelpColumn ? "\n" + std::string(kHelpColumn, ' ')
                                            : std::string(kHelpColumn - entry.size(), ' ');
    std::size_t column = kHelpColumn;
    std::istringstream words(text);
    for (std::string word; words >> word;) {
        if (column > kHelpColumn && column + 1 + word.size() > kHelpWidth) {
            entry += "\n" + std::string(kHelpColumn, ' ');
            column = kHelpColumn;
        }
        entry += (column > kHelpColumn ? " " : "") + word;
        column += word.size() + 1;
    }
    return entry + "\n";
}

/// The entries under their groups, those without a group under `heading`.
std::string helpEntries(const OptionList& options, const std::string& heading) {
    std::string text, group;
    for (const bool positional : {true, false}) {
        for (const OptionDeclaration& option : options.declarations()) {
            if (option.isPositional() != positional) continue;
            const std::string& named = option.group.empty() ? heading : option.group;
            const std::string under = positional ? "Arguments" : named;
            if (under != group) text += fmt::format("\n{}:\n", under);
            group = under;
            text += helpEntry(nameText(option), option.help);
        }
    }
    return text;
}

}  // namespace

std::string helpText(const std::vector<Command>& commands) {
    std::string text =
        "Compresses Transformer models in ONNX format: fewer heads, neurons and layers, low-rank factors,\n"
        "quantization, and a report of what it cost.\n\nUsage: tcompress COMMAND [OPTION]…\n\nCommands:\n";
    for (const Command& command : commands) text += helpEntry(command.name, command.summary);
    text += "\nOptions:\n" + helpEntry("-h, --help", "show this help; after a command, its options");
    text += helpEntry("--version", "print the version");
    text +=
        "\nTo begin with:\n"
        "  tcompress inspect model.onnx\n"
        "  tcompress run model.onnx --preset int8 -o small.onnx --report report.md\n";
    text += "\nExit codes:\n";
    for (const auto& [code, meaning] : kExitCodes) text += helpEntry(code, meaning);
    return text;
}

std::string helpText(const Command& command) {
    CommonOptions unused;
    return sentence(command.summary) + "\n\nUsage: " + synopsis(command) + "\n" +
           helpEntries(command.options, "Options") + helpEntries(commonOptions(unused), "Common") +
           helpEntry("-h, --help", "show this help");
}

std::string manPage(const std::vector<Command>& commands) {
    std::string text =
        fmt::format(".TH TCOMPRESS 1 \"\" \"tcompress {}\" \"User Commands\"\n", TCOMPRESS_VERSION);
    text += ".SH NAME\ntcompress \\- compress Transformer models in ONNX format\n";
    text += ".SH SYNOPSIS\n.B tcompress\n.I COMMAND\n[\\fIOPTION\\fR]...\n";
    text +=
        ".SH DESCRIPTION\nFewer heads, neurons and layers, low-rank factors and quantization, and a report "
        "of what "
        "they cost.\n.SH COMMANDS\n";
    for (const Command& command : commands) {
        text += fmt::format(".SS {}\n{}\n", roff(command.name), roff(sentence(command.summary)));
        text += optionEntries(command.options);
    }
    CommonOptions unused;
    text += ".SS Every command\n" + optionEntries(commonOptions(unused));
    text += ".SH EXIT STATUS\n";
    for (const auto& [code, meaning] : kExitCodes) text += fmt::format(".TP\n.B {}\n{}\n", code, meaning);
    return text;
}

std::string manMarkdown(const std::vector<Command>& commands) {
    std::string text =
        "# Command line\n\nWritten by `scripts/update_generated.sh` from the commands' own declarations; do "
        "not edit. "
        "[pipeline.md](pipeline.md) explains pipeline files and one-liners.\n\n"
        "| command | what it does |\n|---|---|\n";
    for (const Command& command : commands)
        text += fmt::format("| [`{}`](#tcompress-{}) | {} |\n", command.name, command.name,
                            cell(command.summary));
    text += "\n| exit code | meaning |\n|---:|---|\n";
    for (const auto& [code, meaning] : kExitCodes) text += fmt::format("| {} | {} |\n", code, meaning);
    text +=
        "\nData go to standard output, the log, progress and errors to standard error. Every error is one "
        "line: "
        "`tcompress: WHO: WHAT IS WRONG; WHAT TO DO`. A bar is drawn on a terminal only; `NO_COLOR` is "
        "honoured.\n";
    for (const Command& command : commands) {
        text += fmt::format("\n## tcompress {}\n\n`{}`\n\n", command.name, synopsis(command));
        text += sentence(command.summary) + "\n";
        if (!command.options.declarations().empty()) text += "\n" + optionTable(command.options);
    }
    CommonOptions unused;
    text += "\n## Options of every command\n\n" + optionTable(commonOptions(unused));
    return text;
}

}  // namespace tcompress::cli
