#pragma once
// How often each token id occurs: which rows of an embedding table matter.

#include <map>
#include <string>

#include "lib/calibration/archive.h"
#include "lib/calibration/statistic.h"

namespace tcompress::calibration {

/// Counts the elements of an integer value (the indices of a Gather), without padding. Ids that never occur
/// have no entry.
class TokenCounts : public Statistic {
  public:
    explicit TokenCounts(Source source) : source_(source) {}
    const std::map<std::int64_t, std::int64_t>& result() const { return counts_; }

    std::vector<Source> sources() const override { return {source_}; }
    void add(std::span<const Rows> sources) override {
        // Ids are exact in float32 up to 2^24, far above any vocabulary.
        for (const float id : sources[0].values) ++counts_[static_cast<std::int64_t>(id)];
    }

    std::string kind() const override { return "token counts"; }
    void transfer(Archive& archive) override { archive(counts_); }

  private:
    Source source_;
    std::map<std::int64_t, std::int64_t> counts_;
};

}  // namespace tcompress::calibration
