#pragma once
// "3", "0-5": how options name indices.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace tcompress::passes {

/// The indices of a number or an inclusive range; nullopt when the text is neither, or the range runs
/// backwards.
std::optional<std::vector<std::int64_t>> parseIndexRange(std::string_view text);

}  // namespace tcompress::passes
