#pragma once
// Small files for tests.

#include <cstddef>
#include <filesystem>
#include <string>

namespace tcompress::test {

std::string readFile(const std::filesystem::path& path);
void writeFile(const std::filesystem::path& path, const std::string& text);
/// Entries of a folder, hidden ones included: shows what was left behind.
std::size_t entryCount(const std::filesystem::path& folder);

}  // namespace tcompress::test
