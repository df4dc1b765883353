#include "lib/support/sha256.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "lib/support/check.h"
#include "lib/support/mapped_file.h"

namespace tcompress {

struct Sha256::Impl {
    struct Free {
        void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
    };
    std::unique_ptr<EVP_MD_CTX, Free> context{EVP_MD_CTX_new()};
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
    TCOMPRESS_CHECK(impl_->context && EVP_DigestInit_ex(impl_->context.get(), EVP_sha256(), nullptr) == 1,
                    "libcrypto offers no SHA-256");
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
    TCOMPRESS_CHECK(EVP_DigestUpdate(impl_->context.get(), bytes.data(), bytes.size()) == 1,
                    "digest update failed");
}

std::string Sha256::hexDigest() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    TCOMPRESS_CHECK(EVP_DigestFinal_ex(impl_->context.get(), digest.data(), &size) == 1,
                    "digest asked for twice");
    std::string text;
    for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
}

std::string sha256(std::span<const std::byte> bytes) {
    Sha256 hash;
    hash.update(bytes);
    return hash.hexDigest();
}

std::string sha256OfFile(const std::filesystem::path& path) {
    constexpr std::size_t piece = std::size_t{4} << 20;
    std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    Sha256 hash;
    for (std::span<const std::byte> rest = file->bytes(); !rest.empty();) {
        std::span<const std::byte> part = rest.first(std::min(piece, rest.size()));
        hash.update(part);
        file->release(part);
        rest = rest.subspan(part.size());
    }
    return hash.hexDigest();
}

}  // namespace tcompress
