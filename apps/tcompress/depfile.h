#pragma once

#include <filesystem>
#include <string>

#include "lib/pipeline/config.h"

namespace tcompress::cli {

/// Writes "OUTPUT REPORTS…: MODEL DATA… CONFIG" as a Make rule, with an empty rule for each input so that one
/// that was deleted does not stop Make. `configFile` may be empty.
void writeDepfile(const std::filesystem::path& depfile, const pipeline::Config& config,
                  const std::string& configFile);

}  // namespace tcompress::cli
