#pragma once
// SHA-256 of bytes and files, as lower-case hexadecimal (the same as sha256sum prints).

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace tcompress {

class Sha256 {
  public:
    Sha256();
    ~Sha256();
    void update(std::span<const std::byte> bytes);
    std::string hexDigest();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

std::string sha256(std::span<const std::byte> bytes);
std::string sha256OfFile(const std::filesystem::path& path);

}  // namespace tcompress
