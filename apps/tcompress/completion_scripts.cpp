#include "apps/tcompress/completion_scripts.h"

#include <fmt/core.h>
#include <fmt/format.h>

namespace tcompress::cli {

namespace {

/// Its own options and those that every command has.
std::vector<OptionDeclaration> optionsOf(const Command& command) {
    CommonOptions unused;
    std::vector<OptionDeclaration> options = command.options.declarations();
    const OptionList common = commonOptions(unused);
    options.insert(options.end(), common.declarations().begin(), common.declarations().end());
    return options;
}

std::vector<std::string> flagNames(const Command& command) {
    std::vector<std::string> names;
    for (const OptionDeclaration& option : optionsOf(command))
        if (!option.isPositional()) names.insert(names.end(), option.names.begin(), option.names.end());
    return names;
}

std::vector<std::string> commandNames(const std::vector<Command>& commands) {
    std::vector<std::string> names;
    for (const Command& command : commands) names.push_back(command.name);
    return names;
}

/// In single quotes for a shell.
std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
}

/// A description inside a zsh argument specification, where brackets and colons mean something.
std::string zshText(const std::string& text) {
    std::string result;
    for (const char c : text) {
        if (c == '[' || c == ']' || c == ':' || c == '\\') result += '\\';
        result += c;
    }
    return result;
}

/// What zsh offers after an option.
std::string zshAction(const OptionDeclaration& option, const CompletionWords& words) {
    for (const std::string& name : option.names) {
        if (name == "--pass") return fmt::format("({})", fmt::join(words.passes, " "));
        if (name == "--preset") return fmt::format("({})", fmt::join(words.presets, " "));
    }
    return "_files";
}

}  // namespace

std::string bashCompletion(const std::vector<Command>& commands, const CompletionWords& words) {
    std::string cases;
    for (const Command& command : commands)
        cases += fmt::format("        {}) options={} ;;\n", command.name,
                             quoted(fmt::format("{}", fmt::join(flagNames(command), " "))));
    return fmt::format(
        R"(# bash completion of tcompress: source <(tcompress completions bash)
_tcompress() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} options words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W {} -- "$current"))
        return
    fi
    case $previous in
        -p|--pass|passes) words={} ;;
        --preset|presets) words={} ;;
        completions) words='bash zsh fish' ;;
    esac
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        return
    fi
    case ${{COMP_WORDS[1]}} in
{}    esac
    case $current in
        -*) COMPREPLY=($(compgen -W "$options" -- "$current")) ;;
        *) COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
}}
complete -o filenames -F _tcompress tcompress
)",
        quoted(fmt::format("{} --help --version", fmt::join(commandNames(commands), " "))),
        quoted(fmt::format("{}", fmt::join(words.passes, " "))),
        quoted(fmt::format("{}", fmt::join(words.presets, " "))), cases);
}

std::string zshCompletion(const std::vector<Command>& commands, const CompletionWords& words) {
    std::string names, cases;
    for (const Command& command : commands) {
        names += fmt::format("        {}\n", quoted(command.name + ":" + zshText(command.summary)));
        cases += fmt::format("        {}) _arguments \\\n", command.name);
        for (const OptionDeclaration& option : optionsOf(command)) {
            if (option.isPositional()) continue;
            for (const std::string& name : option.names) {
                const std::string spec = fmt::format("*{}[{}]", name, zshText(option.help));
                cases += fmt::format(
                    "            {} \\\n",
                    quoted(option.placeholder.empty() ? spec
                                                      : fmt::format("{}:{}:{}", spec, option.placeholder,
                                                                    zshAction(option, words))));
            }
        }
        cases += "            '*:file:_files' ;;\n";
    }
    return fmt::format(R"(#compdef tcompress
# zsh completion of tcompress: tcompress completions zsh > "${{fpath[1]}}/_tcompress"
_tcompress() {{
    local -a commands
    commands=(
{}    )
    if (( CURRENT == 2 )); then
        _describe 'command' commands
        return
    fi
    shift words
    (( CURRENT-- ))
    case $words[1] in
{}    esac
}}
compdef _tcompress tcompress
)",
                       names, cases);
}

std::string fishCompletion(const std::vector<Command>& commands, const CompletionWords& words) {
    std::string text =
        "# fish completion of tcompress: tcompress completions fish > "
        "~/.config/fish/completions/tcompress.fish\n";
    for (const Command& command : commands)
        text += fmt::format("complete -c tcompress -n __fish_use_subcommand -a {} -d {}\n", command.name,
                            quoted(command.summary));
    for (const Command& command : commands) {
        for (const OptionDeclaration& option : optionsOf(command)) {
            if (option.isPositional()) continue;
            text += fmt::format("complete -c tcompress -n '__fish_seen_subcommand_from {}'", command.name);
            for (const std::string& name : option.names)
                text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
            if (!option.placeholder.empty()) text += " -r";
            for (const std::string& name : option.names) {
                if (name == "--pass")
                    text += fmt::format(" -f -a {}", quoted(fmt::format("{}", fmt::join(words.passes, " "))));
                if (name == "--preset")
                    text +=
                        fmt::format(" -f -a {}", quoted(fmt::format("{}", fmt::join(words.presets, " "))));
            }
            text += fmt::format(" -d {}\n", quoted(option.help));
        }
    }
    return text;
}

}  // namespace tcompress::cli
