#include "lib/support/free_memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace tcompress {

namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

/// The number behind `key` in a file of lines "key number …"; of the whole file where the key is empty.
std::optional<std::uint64_t> numberIn(const fs::path& file, std::string_view key) {
    std::ifstream lines(file);
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(key)) continue;
        const std::size_t digit = line.find_first_of("0123456789", key.size());
        if (digit == std::string::npos) return std::nullopt;
        return std::strtoull(line.c_str() + digit, nullptr, 10);
    }
    return std::nullopt;
}

/// What a control group leaves. Pages of files that it has not used lately are given up first.
std::uint64_t leftInGroup(const fs::path& group, const char* limitFile, const char* usageFile, const char* inactive) {
    const auto limit = numberIn(group / limitFile, ""), usage = numberIn(group / usageFile, "");
    if (!limit || !usage) return kNoLimit;
    const std::uint64_t reclaimable = numberIn(group / "memory.stat", inactive).value_or(0);
    const std::uint64_t held = *usage - std::min(*usage, reclaimable);
    return *limit - std::min(*limit, held);
}

/// The least of a group's and its ancestors', up to `mount`.
template <class Left>
std::uint64_t leftUpwards(const fs::path& mount, fs::path group, Left left) {
    std::uint64_t least = left(mount);
    for (; group.has_relative_path(); group = group.parent_path()) least = std::min(least, left(mount / group.relative_path()));
    return least;
}

std::uint64_t leftInGroups(const fs::path& root) {
    const fs::path mount = root / "sys/fs/cgroup";
    std::uint64_t least = kNoLimit;
    std::ifstream groups(root / "proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {  // number:controllers:path
        const std::size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        const fs::path group = line.substr(second + 1);
        if (controllers.empty())
            least = std::min(least, leftUpwards(mount, group, [](const fs::path& folder) {
                                 return leftInGroup(folder, "memory.max", "memory.current", "inactive_file ");
                             }));
        else if (("," + controllers + ",").find(",memory,") != std::string::npos)
            least = std::min(least, leftUpwards(mount / "memory", group, [](const fs::path& folder) {
                                 return leftInGroup(folder, "memory.limit_in_bytes", "memory.usage_in_bytes",
                                                    "total_inactive_file ");
                             }));
    }
    return least;
}

std::uint64_t leftOfAddresses(const fs::path& root) {
    rlimit limit{};
    const auto used = numberIn(root / "proc/self/status", "VmSize:");
    if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || !used) return kNoLimit;
    return limit.rlim_cur - std::min<std::uint64_t>(limit.rlim_cur, *used * 1024);
}

}  // namespace

std::uint64_t freeMemoryBytes(const fs::path& root) {
    const auto available = numberIn(root / "proc/meminfo", "MemAvailable:");
    return std::min({available ? *available * 1024 : kNoLimit, leftInGroups(root), leftOfAddresses(root)});
}

}  // namespace tcompress
