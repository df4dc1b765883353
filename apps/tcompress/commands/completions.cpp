// tcompress completions, tcompress man: made from the parser's own list of options.

#include <fmt/core.h>
#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "apps/tcompress/command.h"
#include "apps/tcompress/completion_scripts.h"
#include "apps/tcompress/presets.h"
#include "lib/pipeline/pass_step.h"
#include "passes/registry.h"

namespace tcompress::cli {

namespace {

CompletionWords completionWords() {
    CompletionWords words;
    for (const pipeline::PassInfo& info : passes::registry())
        words.passes.push_back(pipeline::fullName(info));
    for (const Preset& preset : presets()) words.presets.emplace_back(preset.name);
    return words;
}

ExitCode printCompletion(const std::string& shell) {
    const std::vector<Command> commands = allCommands();
    const CompletionWords words = completionWords();
    if (shell == "bash")
        std::cout << bashCompletion(commands, words);
    else if (shell == "zsh")
        std::cout << zshCompletion(commands, words);
    else
        std::cout << fishCompletion(commands, words);
    return ExitCode::done;
}

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
        text += fmt::format(".SS {}\n{}.\n", roff(command.name), roff(command.summary));
        text += optionEntries(command.options);
    }
    CommonOptions unused;
    text += ".SS Every command\n" + optionEntries(commonOptions(unused));
    text += ".SH EXIT STATUS\n";
    const std::pair<const char*, const char*> codes[] = {
        {"0", "done"},
        {"1", "a constraint was missed; the output is written"},
        {"2", "the command line or the pipeline file is wrong"},
        {"3", "a model or data cannot be used, or a pass cannot do what was asked"},
        {"4", "an error of tcompress itself"},
        {"130", "interrupted"},
    };
    for (const auto& [code, meaning] : codes) text += fmt::format(".TP\n.B {}\n{}\n", code, meaning);
    return text;
}

}  // namespace

Command completionsCommand() {
    auto shell = std::make_shared<std::string>();
    Command command{"completions", "print the completion script of a shell", {}, {}};
    command.options.positional("SHELL", *shell, Presence::required, "bash, zsh or fish").choices = {
        "bash", "zsh", "fish"};
    command.action = [shell](Session&) { return printCompletion(*shell); };
    return command;
}

Command manCommand() {
    Command command{"man", "print the manual page (tcompress man | man -l -)", {}, {}};
    command.action = [](Session&) {
        std::cout << manPage(allCommands());
        return ExitCode::done;
    };
    return command;
}

}  // namespace tcompress::cli
