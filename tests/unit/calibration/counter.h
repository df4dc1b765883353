#pragma once
// Progress that counts, for tests of what is run and what is found again.

#include <cstdint>
#include <string_view>

#include "lib/support/progress.h"

namespace tcompress::test {

/// How often models ran over the samples.
struct Counter : Progress {
    void begin(std::string_view, std::int64_t) override { ++runs; }
    int runs = 0;
};

}  // namespace tcompress::test
