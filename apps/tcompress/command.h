#pragma once
// One subcommand: its options and what it does.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/tcompress/exit_code.h"
#include "apps/tcompress/option_list.h"
#include "lib/support/log.h"
#include "lib/support/progress.h"

namespace tcompress::cli {

/// Options that every command has.
struct CommonOptions {
    std::optional<std::int64_t> threads;
    bool quiet = false;
    bool verbose = false;
    log::Format logFormat = log::Format::text;
};

/// What a command finds when it runs.
struct Session {
    CommonOptions common;
    std::string commandLine;  ///< as it was typed
    Progress* progress = nullptr;
};

struct Command {
    std::string name;
    std::string summary;
    OptionList options;
    std::function<ExitCode(Session&)> action;
};

// One function a command, each in commands/NAME.cpp.
Command runCommand();
Command inspectCommand();
Command evalCommand();
Command compareCommand();
Command sensitivityCommand();
Command passesCommand();
Command presetsCommand();
Command validateCommand();
Command schemaCommand();
Command batchCommand();
Command completionsCommand();
Command manCommand();

/// All of them, in the order of the help.
std::vector<Command> allCommands();
/// The options that every command has, bound to `common`.
OptionList commonOptions(CommonOptions& common);

}  // namespace tcompress::cli
