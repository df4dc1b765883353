#include "apps/tcompress/manual.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <cctype>
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

}  // namespace

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
