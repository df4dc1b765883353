#include "passes/support/index_ranges.h"

#include <charconv>

namespace tcompress::passes {
namespace {

constexpr std::int64_t kLargestIndex = 1 << 20;

std::optional<std::int64_t> parseIndex(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 0 || value > kLargestIndex)
        return {};
    return value;
}

}  // namespace

std::optional<std::vector<std::int64_t>> parseIndexRange(std::string_view text) {
    const std::size_t dash = text.find('-');
    const auto first = parseIndex(text.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parseIndex(text.substr(dash + 1));
    if (!first || !last || *last < *first) return {};
    std::vector<std::int64_t> indices;
    for (std::int64_t i = *first; i <= *last; ++i) indices.push_back(i);
    return indices;
}

}  // namespace tcompress::passes
