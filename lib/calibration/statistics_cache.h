#pragma once
// Statistics kept from run to run in a folder. An entry is named by the hash of everything it depends on
// (models, data, request, version of this program's statistics), so it never goes stale; it is written whole
// or not at all, and one that is damaged is noticed by its checksum and made anew.

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lib/calibration/statistic.h"

namespace tcompress::calibration {

class StatisticsCache {
  public:
    /// The folder is made when something is written.
    explicit StatisticsCache(std::filesystem::path folder) : folder_(std::move(folder)) {}

    /// `request` is the text of what the entry depends on. Tells whether the statistic was filled; a damaged
    /// entry is logged, and the statistic is as it was.
    bool load(const std::string& request, Statistic& statistic) const;
    /// Tells whether it was kept. A folder that cannot be written is logged: a run does not fail for its
    /// cache.
    bool store(const std::string& request, Statistic& statistic) const;

    /// Where the entry of a request is.
    std::filesystem::path file(const std::string& request) const;

  private:
    std::filesystem::path folder_;
};

}  // namespace tcompress::calibration
