#pragma once
// How much memory this process may still take, before the system ends it.

#include <cstdint>
#include <filesystem>

namespace tcompress {

/// Bytes: the least of what the machine has left (MemAvailable, which counts pages that can be given up), of what the
/// control groups of this process leave, versions 1 and 2, and of its own limit of addresses (ulimit -v). What cannot be
/// read limits nothing. `root` is the folder that proc and sys are found in.
std::uint64_t freeMemoryBytes(const std::filesystem::path& root = "/");

}  // namespace tcompress
