#pragma once
// Completion scripts for shells: subcommands, options of each, passes after -p, presets after --preset, files
// elsewhere.

#include <string>
#include <vector>

#include "apps/tcompress/command.h"

namespace tcompress::cli {

struct CompletionWords {
    std::vector<std::string> passes;   ///< after -p and for `passes`
    std::vector<std::string> presets;  ///< after --preset and for `presets`
};

std::string bashCompletion(const std::vector<Command>& commands, const CompletionWords& words);
std::string zshCompletion(const std::vector<Command>& commands, const CompletionWords& words);
std::string fishCompletion(const std::vector<Command>& commands, const CompletionWords& words);

}  // namespace tcompress::cli
