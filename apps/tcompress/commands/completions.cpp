// tcompress completions: scripts for shells.

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

}  // namespace

Command completionsCommand() {
    auto shell = std::make_shared<std::string>();
    Command command{"completions", "print the completion script of a shell", {}, {}};
    command.options.positional("SHELL", *shell, Presence::required, "bash, zsh or fish").choices = {
        "bash", "zsh", "fish"};
    command.action = [shell](Session&) { return printCompletion(*shell); };
    return command;
}

}  // namespace tcompress::cli
