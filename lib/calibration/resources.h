#pragma once
// What calibration may use of the machine.

#include <cstdint>
#include <filesystem>

namespace tcompress::calibration {

struct Resources {
    /// Memory for activations that are kept between blocks (stream.h); more goes to a temporary file.
    std::uint64_t memoryLimitBytes = std::uint64_t{256} << 20;
    /// Where statistics are kept from run to run (statistics_cache.h); empty: nowhere.
    std::filesystem::path cacheFolder = {};
};

}  // namespace tcompress::calibration
