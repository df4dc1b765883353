#pragma once
// The machine that figures were measured on: without it latency and energy mean nothing.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tcompress::measure {

struct Machine {
    std::string cpuModel;  ///< "model name" of /proc/cpuinfo
    std::vector<std::string>
        cpuFeatures;        ///< instruction sets that matter to the kernels: "avx2", "avx512_vnni" …
    int logicalCores = 0;   ///< processors this process may run on
    int physicalCores = 0;  ///< 0 when unknown
    std::uint64_t memoryBytes = 0;
    std::string operatingSystem;  ///< "Linux 6.1.0 x86_64"
};

/// Reads /proc/cpuinfo and the like; what cannot be read stays empty.
Machine describeMachine();
/// The same from the text of a cpuinfo file.
Machine parseCpuInfo(const std::string& text);

/// Most memory this process has held at once, in bytes.
std::uint64_t peakMemoryBytes();

}  // namespace tcompress::measure
