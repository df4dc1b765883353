#include "apps/tcompress/cli.h"

#include <fmt/core.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>
#include <new>
#include <sstream>

#include "apps/tcompress/command.h"
#include "apps/tcompress/console_progress.h"
#include "apps/tcompress/manual.h"
#include "lib/support/diagnostics.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"

namespace tcompress::cli {

namespace {

/// One line a problem on standard error: "tcompress: WHO: WHAT; WHAT TO DO".
void tell(const std::string& text, log::Format format) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (format == log::Format::json)
            log::write(log::Level::error, line);
        else
            std::cerr << "tcompress: " << line << '\n';
    }
}

/// The command line as a shell would read it again.
std::string joined(int argc, const char* const* argv) {
    std::string text;
    for (int i = 0; i < argc; ++i) {
        const std::string word = argv[i];
        const bool plain =
            !word.empty() && word.find_first_of(" \t\n\"'\\$&|;<>()*?[]#~!`{}") == std::string::npos;
        std::string quoted;
        for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
        text += (i > 0 ? " " : "") + (plain ? word : "'" + quoted + "'");
    }
    return text;
}

/// Of standard output, where it is a pipe: it has had enough.
bool readerIsGone() {
    pollfd output{STDOUT_FILENO, 0, 0};
    return ::poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0;
}

void checkTexts(const OptionDeclaration& option, const std::vector<std::string>& texts) {
    const std::string& name = option.names.back();
    if (option.repeat == Repeat::refused && texts.size() > 1)
        throw ConfigError(fmt::format("{}: is given {} times ({}); name one", name, texts.size(), fmt::join(texts, ", ")));
    // An empty shell variable must not mean "no data".
    if (option.placeholder == "FILE" && std::ranges::find(texts, "") != texts.end())
        throw ConfigError(fmt::format("{}: is empty; name a file, or leave the option out", name));
    for (const std::string& text : texts)
        if (!option.choices.empty() && std::ranges::find(option.choices, text) == option.choices.end())
            throw ConfigError(
                fmt::format("{}: must be one of {}, not '{}'", name, fmt::join(option.choices, ", "), text));
}

CLI::Option* declareOption(CLI::App& app, const OptionDeclaration& option) {
    const std::string names = fmt::format("{}", fmt::join(option.names, ","));
    if (option.kind == OptionKind::flag)
        return app.add_flag_callback(
            names, [take = option.take] { take({}); }, option.help);
    CLI::Option* added = app.add_option_function<std::vector<std::string>>(
        names,
        [option](const std::vector<std::string>& texts) {
            checkTexts(option, texts);
            option.take(texts);
        },
        option.help);
    switch (option.kind) {
        case OptionKind::flag:
            break;
        case OptionKind::positionals:
            added->expected(1, 1 << 20);
            break;
        case OptionKind::value:
        case OptionKind::values:
            added->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
            break;
        case OptionKind::positional:
            added->expected(1)
                ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
                ->allow_extra_args(false);
            break;
    }
    return added;
}

void declare(CLI::App& app, const OptionList& options) {
    for (const OptionDeclaration& option : options.declarations()) {
        CLI::Option* added = declareOption(app, option);
        if (option.presence == Presence::required) added->required();
        if (!option.excludes.empty()) added->excludes(app.get_option(option.excludes));
    }
}

std::vector<std::string> longNames(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options())
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    return names;
}

[[noreturn]] void refuseCommand(const std::string& word, const std::vector<Command>& commands) {
    std::vector<std::string> names;
    for (const Command& command : commands) names.push_back(command.name);
    throw ConfigError(
        fmt::format("{}: there is no such command{}", word,
                    didYouMeanOr(word, names, fmt::format("there are {}", fmt::join(names, ", ")))));
}

/// The first word that no command or option takes.
void refuseUnknown(const CLI::App& app, const std::vector<Command>& commands) {
    const std::vector<std::string> left = app.remaining();
    if (left.empty()) return;
    const std::string& word = left.front();
    if (word.starts_with("-"))
        throw ConfigError(
            fmt::format("{}: there is no such option{}", word,
                        didYouMeanOr(word, longNames(app), "`tcompress --help` shows what there is")));
    refuseCommand(word, commands);
}

/// Options that do not exist; without such, words that nothing takes (behind an unknown option they may be
/// its value).
void refuseLeftOvers(const CLI::App& app) {
    Diagnostics options, words;
    for (const std::string& word : app.remaining()) {
        const std::string place = fmt::format("{}: {}", app.get_name(), word);
        if (word.starts_with("-"))
            options.add(
                place,
                fmt::format("there is no such option{}",
                            didYouMeanOr(word.substr(0, word.find('=')), longNames(app),
                                         fmt::format("`tcompress {} --help` lists them", app.get_name()))));
        else
            words.add(place, fmt::format("one argument too many; `tcompress {} --help` shows how to call it",
                                         app.get_name()));
    }
    options.throwIfAny();
    words.throwIfAny();
}

void configure(const CommonOptions& options) {
    log::Level level = log::Level::info;
    if (options.verbose) level = log::Level::debug;
    if (options.quiet) level = log::Level::error;
    log::configure(level, options.logFormat);
    if (options.threads) setThreadCount(static_cast<int>(*options.threads));
}

class CommandLine {
  public:
    explicit CommandLine(Session& session)
        : session_(session), commands_(allCommands()), app_("", "tcompress") {
        app_.set_help_flag("-h,--help", "show this help");
        app_.add_flag("--version", version_, "print the version");
        app_.allow_extras();
        for (const Command& command : commands_) {
            CLI::App* sub = app_.add_subcommand(command.name, command.summary);
            sub->allow_extras();
            sub->set_help_flag("-h,--help", "show this help");
            declare(*sub, command.options);
            declare(*sub, commonOptions(session_.common));
            byApp_[sub] = &command;
        }
    }

    ExitCode run(int argc, const char* const* argv) {
        std::vector<const char*> words(argv, argv + argc);
        if (argc > 1 && std::string_view(argv[1]) == "help") {  // help COMMAND: COMMAND --help
            words.erase(words.begin() + 1);
            words.resize(std::min<std::size_t>(words.size(), 2));
            words.push_back("--help");
        }
        try {
            app_.parse(static_cast<int>(words.size()), const_cast<char**>(words.data()));
        } catch (const CLI::CallForHelp&) {
            if (chosen() == nullptr && !std::string_view(words[1]).starts_with("-")) refuseCommand(words[1], commands_);
            std::cout << (chosen() != nullptr ? helpText(*byApp_.at(chosen())) : helpText(commands_));
            return ExitCode::done;
        } catch (const CLI::ArgumentMismatch& error) {
            const std::string text = error.what();
            throw ConfigError(fmt::format("{}{}: a value is missing behind it",
                                          chosen() != nullptr ? chosen()->get_name() + ": " : "",
                                          text.substr(0, text.find(':'))));
        } catch (const CLI::ExcludesError& error) {
            std::string text = error.what();
            constexpr std::string_view kVerb = " excludes ";
            if (const std::size_t at = text.find(kVerb); at != std::string::npos) text.replace(at, kVerb.size(), " and ");
            throw ConfigError(fmt::format("{}{} exclude each other; give one",
                                          chosen() != nullptr ? chosen()->get_name() + ": " : "", text));
        } catch (const CLI::ParseError& error) {
            throw ConfigError(
                fmt::format("{}{}", chosen() != nullptr ? chosen()->get_name() + ": " : "", error.what()));
        }
        if (version_) {
            std::cout << "tcompress " << TCOMPRESS_VERSION << '\n';
            return ExitCode::done;
        }
        if (chosen() == nullptr) {
            refuseUnknown(app_, commands_);
            std::cerr << helpText(commands_);
            return ExitCode::usage;
        }
        refuseLeftOvers(*chosen());
        configure(session_.common);
        ConsoleProgress progress(session_.common.quiet ? ConsoleProgress::Style::silent : terminalStyle());
        session_.progress = &progress;
        return byApp_.at(chosen())->action(session_);
    }

  private:
    const CLI::App* chosen() const {
        const std::vector<const CLI::App*> found =
            app_.get_subcommands([](const CLI::App* sub) { return sub->parsed(); });
        return found.empty() ? nullptr : found.front();
    }
    ConsoleProgress::Style terminalStyle() const {
        return session_.common.logFormat == log::Format::json ? ConsoleProgress::Style::lines
                                                              : ConsoleProgress::styleOfTerminal();
    }

    Session& session_;
    std::vector<Command> commands_;
    CLI::App app_;
    bool version_ = false;
    std::map<const CLI::App*, const Command*> byApp_;
};

}  // namespace

ExitCode runCommandLine(int argc, const char* const* argv) {
    Session session;
    session.commandLine = joined(argc, argv);
    const auto fail = [&](const std::string& text, ExitCode code) {
        tell(text, session.common.logFormat);
        return code;
    };
    try {
        const ExitCode code = CommandLine(session).run(argc, argv);
        if (std::cout.flush() || readerIsGone()) return code;
        return fail("standard output: not all could be written; is the disk full?", ExitCode::input);
    } catch (const Cancelled&) {
        return fail("interrupted; nothing half-written is left", ExitCode::interrupted);
    } catch (const ConfigError& error) {
        return fail(error.what(), ExitCode::usage);
    } catch (const InternalError& error) {
        return fail(fmt::format("internal error: {}; please report it", error.what()), ExitCode::internal);
    } catch (const Error& error) {
        return fail(error.what(), ExitCode::input);
    } catch (const std::filesystem::filesystem_error& error) {
        return fail(fmt::format("{}: {}", error.path1().string(), error.code().message()), ExitCode::input);
    } catch (const std::bad_alloc&) {
        return fail("not enough memory; use a smaller batch or fewer samples", ExitCode::internal);
    } catch (const std::exception& error) {
        return fail(fmt::format("internal error: {}; please report it", error.what()), ExitCode::internal);
    }
}

}  // namespace tcompress::cli
