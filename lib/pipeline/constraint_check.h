#pragma once
// Whether a run kept within its stated constraints.

#include <cstdint>
#include <vector>

#include "lib/pipeline/config.h"
#include "lib/report/report.h"

namespace tcompress::pipeline {

struct FileSizes {
    std::uint64_t originalBytes = 0, compressedBytes = 0;
};

/// One row a constraint that is set. `evaluation` may be null when nothing was evaluated.
std::vector<report::ConstraintRow> checkConstraints(const Constraints& constraints, FileSizes sizes,
                                                    const measure::Evaluation* evaluation);

}  // namespace tcompress::pipeline
