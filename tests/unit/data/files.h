#pragma once
// Hand-made files for the tests of the readers.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tcompress::data {

inline void writeBytes(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string readBytes(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string littleEndian(std::uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i & 0xff);
    return text;
}

/// A .npy file of any version with this dict and these array bytes.
inline std::string npyFile(const std::string& dict, const std::string& array, int version = 1) {
    const std::string text = dict + "\n";
    return std::string("\x93NUMPY") + static_cast<char>(version) + '\0' +
           littleEndian(text.size(), version == 1 ? 2 : 4) + text + array;
}

}  // namespace tcompress::data
