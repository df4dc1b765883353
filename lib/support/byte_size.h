#pragma once
// Sizes as people write them.

#include <cstdint>
#include <optional>
#include <string_view>

namespace tcompress {

/// Bytes: "268435456", "300 MB", "1.5GiB". kB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB powers
/// of 1024; upper or lower case. Nothing when it is not a size of at most 2^62.
std::optional<std::uint64_t> parseByteSize(std::string_view text);

}  // namespace tcompress
