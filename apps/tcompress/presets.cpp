#include "apps/tcompress/presets.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <vector>

#include "lib/support/diagnostics.h"
#include "lib/support/error.h"

namespace tcompress::cli {

const Preset& findPreset(const std::string& name) {
    std::vector<std::string> names;
    for (const Preset& preset : presets()) {
        if (preset.name == name) return preset;
        names.emplace_back(preset.name);
    }
    throw ConfigError(
        fmt::format("--preset {}: there is no such preset{}", name,
                    didYouMeanOr(name, names, fmt::format("there are {}", fmt::join(names, ", ")))));
}

}  // namespace tcompress::cli
