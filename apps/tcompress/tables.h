#pragma once
// Plain-text tables and units for people.

#include <cstdint>
#include <string>
#include <vector>

#include "lib/analysis/cost.h"

namespace tcompress::cli {

enum class Align { left, right };

/// Columns as wide as their longest cell, two spaces between them, the first row is the head.
std::string renderTable(const std::vector<std::vector<std::string>>& rows, const std::vector<Align>& columns);

/// "17.24 M", "1.30 G": counts of parameters and multiply-accumulates.
std::string shortCount(std::int64_t count);

/// What counts of work are for: "one sample of 128 tokens", "one sample" where no length is dynamic.
std::string sampleText(const analysis::ModelCost& cost);

}  // namespace tcompress::cli
