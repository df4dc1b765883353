#pragma once
// Numbers of things in messages.

#include <fmt/core.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace tcompress {

/// One word or a plural: "1 site", "3 sites".
inline std::string counted(std::size_t count, std::string_view noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace tcompress
