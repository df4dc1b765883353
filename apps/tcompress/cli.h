#pragma once
// The command line as a whole: the tree of subcommands, parsing with suggestions, errors as exit codes.

#include "apps/tcompress/exit_code.h"

namespace tcompress::cli {

ExitCode runCommandLine(int argc, const char* const* argv);

}  // namespace tcompress::cli
