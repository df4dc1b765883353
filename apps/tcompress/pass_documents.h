#pragma once
// The passes in words, all from their PassInfo.

#include <span>
#include <string>

#include "lib/pipeline/pass.h"

namespace tcompress::cli {

/// One line a pass.
std::string passList(std::span<const pipeline::PassInfo> passes);
/// Details and options, for a terminal.
std::string passHelp(std::span<const pipeline::PassInfo> passes);
/// The same as a document: docs/passes.md.
std::string passesMarkdown(std::span<const pipeline::PassInfo> passes);
std::string passesJson(std::span<const pipeline::PassInfo> passes);

}  // namespace tcompress::cli
