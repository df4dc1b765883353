#include "lib/support/byte_size.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <string>

namespace tcompress {

std::optional<std::uint64_t> parseByteSize(std::string_view text) {
    struct Unit {
        std::string_view name;
        double bytes;
    };
    static constexpr std::array kUnits{Unit{"", 1},
                                       Unit{"b", 1},
                                       Unit{"kb", 1e3},
                                       Unit{"mb", 1e6},
                                       Unit{"gb", 1e9},
                                       Unit{"tb", 1e12},
                                       Unit{"kib", 1024},
                                       Unit{"mib", 1048576},
                                       Unit{"gib", 1073741824},
                                       Unit{"tib", 1099511627776}};
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || !std::isfinite(number) || number < 0) return std::nullopt;
    std::string unit(end, text.data() + text.size());
    unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
    for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto found = std::find_if(kUnits.begin(), kUnits.end(),
                                    [&](const Unit& candidate) { return candidate.name == unit; });
    constexpr double kLargest = 4611686018427387904.0;
    if (found == kUnits.end() || number * found->bytes > kLargest) return std::nullopt;
    return static_cast<std::uint64_t>(number * found->bytes);
}

}  // namespace tcompress
