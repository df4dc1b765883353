#include "lib/measure/machine.h"

#include <fmt/core.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

namespace tcompress::measure {
namespace {

/// Instruction sets that kernels choose by, as /proc/cpuinfo spells them.
constexpr std::array<std::string_view, 14> features{
    "sse4_2",   "avx",         "avx2",     "fma",         "f16c",        "avx512f",  "avx512bw",
    "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"};

std::string trimmed(std::string_view text) {
    const std::size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return {};
    return std::string(text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1));
}

}  // namespace

Machine parseCpuInfo(const std::string& text) {
    Machine machine;
    std::set<std::string> flags;
    std::set<std::pair<std::string, std::string>> cores;
    std::string package, line;
    for (std::istringstream lines(text); std::getline(lines, line);) {
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        const std::string key = trimmed(std::string_view(line).substr(0, colon));
        const std::string value = trimmed(std::string_view(line).substr(colon + 1));
        if (key == "model name" && machine.cpuModel.empty()) machine.cpuModel = value;
        if ((key == "flags" || key == "Features") && flags.empty()) {
            std::istringstream words(value);
            for (std::string word; words >> word;) flags.insert(word);
        }
        if (key == "physical id") package = value;
        if (key == "core id") cores.emplace(package, value);
    }
    for (const std::string_view feature : features)
        if (flags.contains(std::string(feature))) machine.cpuFeatures.emplace_back(feature);
    machine.physicalCores = static_cast<int>(cores.size());
    return machine;
}

Machine describeMachine() {
    std::ifstream file("/proc/cpuinfo");
    std::ostringstream text;
    text << file.rdbuf();
    Machine machine = parseCpuInfo(text.str());
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    machine.logicalCores = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                               ? CPU_COUNT(&allowed)
                               : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    machine.memoryBytes = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                          static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    if (utsname system; uname(&system) == 0)
        machine.operatingSystem = fmt::format("{} {} {}", system.sysname, system.release, system.machine);
    return machine;
}

std::uint64_t peakMemoryBytes() {
    // getrusage counts what the parent held before it started this program, so the kernel's own record comes first.
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) * 1024;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;  // Linux counts in KiB
}

}  // namespace tcompress::measure
