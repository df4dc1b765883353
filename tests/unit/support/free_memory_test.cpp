// What a process may still take, from files as Linux writes them.

#include "lib/support/free_memory.h"

#include <catch2/catch.hpp>

#include "tests/support/files.h"
#include "tests/support/judge.h"

using tcompress::freeMemoryBytes;
using tcompress::test::ScratchFolder;

namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

void write(const ScratchFolder& root, const std::string& file, const std::string& text) {
    std::filesystem::create_directories((root.path() / file).parent_path());
    tcompress::test::writeFile(root.path() / file, text);
}

}  // namespace

TEST_CASE("free memory is what the machine has left") {
    const ScratchFolder root;
    CHECK(freeMemoryBytes(root.path()) > 1000 * kGiB);  // nothing is known
    write(root, "proc/meminfo", "MemTotal:       24683984 kB\nMemFree:          524288 kB\nMemAvailable:    4194304 kB\n");
    CHECK(freeMemoryBytes(root.path()) == 4 * kGiB);
    CHECK(freeMemoryBytes() < 1000 * kGiB);
}

TEST_CASE("free memory is what the narrowest control group leaves") {
    const ScratchFolder root;
    write(root, "proc/meminfo", "MemAvailable:    8388608 kB\n");
    write(root, "proc/self/cgroup", "0::/outer/inner\n");
    const std::string mount = "sys/fs/cgroup/";
    write(root, mount + "outer/inner/memory.max", "max\n");
    write(root, mount + "outer/inner/memory.current", "1073741824\n");
    CHECK(freeMemoryBytes(root.path()) == 8 * kGiB);
    write(root, mount + "outer/memory.max", "3221225472\n");
    write(root, mount + "outer/memory.current", "2147483648\n");
    CHECK(freeMemoryBytes(root.path()) == 1 * kGiB);
    // Pages of files are given up.
    write(root, mount + "outer/memory.stat", "anon 1\ninactive_file 1073741824\nactive_file 5\n");
    CHECK(freeMemoryBytes(root.path()) == 2 * kGiB);
    write(root, mount + "outer/memory.current", "9999999999999\n");
    CHECK(freeMemoryBytes(root.path()) == 0);
}

TEST_CASE("free memory: control groups of version 1") {
    const ScratchFolder root;
    write(root, "proc/meminfo", "MemAvailable:    8388608 kB\n");
    write(root, "proc/self/cgroup", "12:cpu,cpuacct:/other\n5:memory:/docker/x\n0::/\n");
    const std::string group = "sys/fs/cgroup/memory/docker/x/";
    write(root, group + "memory.limit_in_bytes", "2147483648\n");
    write(root, group + "memory.usage_in_bytes", "1610612736\n");
    write(root, group + "memory.stat", "inactive_file 7\ntotal_inactive_file 536870912\n");
    CHECK(freeMemoryBytes(root.path()) == 1 * kGiB);
    // "No limit" is a large number there.
    write(root, group + "memory.limit_in_bytes", "9223372036854771712\n");
    CHECK(freeMemoryBytes(root.path()) == 8 * kGiB);
}
