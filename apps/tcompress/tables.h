#pragma once
// Plain-text tables and units for people.

#include <cstdint>
#include <string>
#include <vector>

namespace tcompress::cli {

enum class Align { left, right };

/// Columns as wide as their longest cell, two spaces between them, the first row is the head.
std::string renderTable(const std::vector<std::vector<std::string>>& rows, const std::vector<Align>& columns);

std::string megabytes(std::uint64_t bytes);
/// "17.24 M", "1.30 G": counts of parameters and multiply-accumulates.
std::string shortCount(std::int64_t count);
/// One word or a plural: "1 site", "3 sites".
std::string counted(std::size_t count, const std::string& noun);

}  // namespace tcompress::cli
