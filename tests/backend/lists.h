#pragma once
// The text files of this folder: one entry a line, "#" starts a comment, what follows the first ": " is the entry's reason.

#include <map>
#include <string>

namespace tcompress::test {

/// Entry → reason ("" when the line has none).
std::map<std::string, std::string> readList(const std::string& fileName);

}  // namespace tcompress::test
