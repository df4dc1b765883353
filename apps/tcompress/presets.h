#pragma once
// The ready pipelines of configs/, compiled into the program so that it needs no file beside it.

#include <span>
#include <string>
#include <string_view>

namespace tcompress::cli {

struct Preset {
    std::string_view name;  ///< file name without .json
    std::string_view text;  ///< the pipeline file
};

/// In alphabetical order. Defined in a file that CMake writes (embed_presets.cmake).
std::span<const Preset> presets();

/// Throws ConfigError with the nearest name.
const Preset& findPreset(const std::string& name);

}  // namespace tcompress::cli
