#pragma once
// Help and manual of the command line, made from the commands' own declarations.

#include <string>
#include <vector>

#include "apps/tcompress/command.h"

namespace tcompress::cli {

/// What `tcompress --help` prints, and `tcompress COMMAND --help`.
std::string helpText(const std::vector<Command>& commands);
std::string helpText(const Command& command);
/// roff, for man(1).
std::string manPage(const std::vector<Command>& commands);
/// docs/cli.md.
std::string manMarkdown(const std::vector<Command>& commands);

}  // namespace tcompress::cli
