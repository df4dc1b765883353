#include "tests/backend/lists.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

namespace tcompress::test {

std::map<std::string, std::string> readList(const std::string& fileName) {
    const std::filesystem::path path = std::filesystem::path(TCOMPRESS_TEST_DATA).parent_path() / "backend" / fileName;
    std::ifstream file(path);
    INFO(path);
    REQUIRE(file);
    std::map<std::string, std::string> entries;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line[0] == '#') continue;
        const std::size_t end = std::min(line.find(": "), line.size());
        const bool isNew = entries.emplace(line.substr(0, end), end < line.size() ? line.substr(end + 2) : "").second;
        INFO(line);
        CHECK(isNew);
    }
    return entries;
}

}  // namespace tcompress::test
