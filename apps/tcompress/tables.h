#pragma once
// Plain-text tables and units for people.

#include <cstdint>
#include <string>
#include <vector>

namespace tcompress::cli {

enum class Align { left, right };

/// Columns as wide as their longest cell, two spaces between them, the first row is the head.
std::string renderTable(const std::vector<std::vector<std::string>>& rows, const std::vector<Align>& columns);

/// "17.24 M", "1.30 G": counts of parameters and multiply-accumulates.
std::string shortCount(std::int64_t count);

}  // namespace tcompress::cli
