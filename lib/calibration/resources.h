#pragma once
// What calibration may use of the machine.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <utility>

#include "lib/support/progress.h"

namespace tcompress::calibration {

class Fingerprints;

struct Resources {
    /// For activations kept between blocks (more goes to a file) and gradients' sums (more takes another run).
    std::uint64_t memoryLimitBytes = std::uint64_t{256} << 20;
    /// Where statistics are kept from run to run (statistics_cache.h); empty: nowhere.
    std::filesystem::path cacheFolder = {};
    /// What has been hashed for the cache already; null: a stream begins anew.
    std::shared_ptr<Fingerprints> fingerprints = {};
};

/// Where calibration runs: who is told how far it is, and what it may use of the machine.
struct Environment {
    Environment(Progress& itsProgress, Resources itsResources = {})
        : progress(itsProgress), resources(std::move(itsResources)) {}

    Progress& progress;
    Resources resources;
};

}  // namespace tcompress::calibration
