#include "lib/calibration/statistics_cache.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <string_view>
#include <system_error>

#include "lib/calibration/archive.h"
#include "lib/support/atomic_file.h"
#include "lib/support/error.h"
#include "lib/support/log.h"
#include "lib/support/sha256.h"

namespace tcompress::calibration {

namespace {

/// First line of every entry. The number goes up when a statistic's fields or the way it adds up change.
constexpr std::string_view kHeader = "tcompress statistic 3\n";
constexpr std::size_t kDigestSize = 64;

std::span<const std::byte> bytesOf(std::string_view text) {
    return std::as_bytes(std::span(text.data(), text.size()));
}

/// The payload of an entry: header, checksum of what follows, payload.
std::span<const std::byte> checkedPayload(std::string_view content) {
    if (!content.starts_with(kHeader)) throw Error("it does not begin as one");
    content.remove_prefix(kHeader.size());
    if (content.size() < kDigestSize) throw Error("it is cut short");
    const std::string_view payload = content.substr(kDigestSize);
    if (sha256(bytesOf(payload)) != content.substr(0, kDigestSize))
        throw Error("its checksum does not match");
    return bytesOf(payload);
}

}  // namespace

std::filesystem::path StatisticsCache::file(const std::string& request) const {
    return folder_ / (sha256(bytesOf(std::string(kHeader) + request)) + ".statistic");
}

bool StatisticsCache::load(const std::string& request, Statistic& statistic) const {
    const std::filesystem::path path = file(request);
    std::error_code none;
    if (!std::filesystem::is_regular_file(path, none)) return false;
    std::ifstream stream(path, std::ios::binary | std::ios::ate);
    if (!stream) return false;
    std::string content(static_cast<std::size_t>(std::max<std::streamoff>(0, stream.tellg())), '\0');
    stream.seekg(0).read(content.data(), static_cast<std::streamsize>(content.size()));
    content.resize(static_cast<std::size_t>(stream.gcount()));
    Archive before;
    statistic.transfer(before);
    const std::vector<std::byte> asItWas = before.take();
    try {
        Archive archive(checkedPayload(content));
        statistic.transfer(archive);
        if (!archive.isExhausted()) throw Error("it is too long");
    } catch (const Error& error) {
        Archive undo(asItWas);
        statistic.transfer(undo);
        log::warning("{}: not a statistic of this program ({}); it is computed anew", path.string(),
                     error.what());
        return false;
    }
    return true;
}

bool StatisticsCache::store(const std::string& request, Statistic& statistic) const {
    Archive archive;
    statistic.transfer(archive);
    const std::vector<std::byte> payload = archive.take();
    try {
        std::error_code error;
        std::filesystem::create_directories(folder_, error);
        if (error) throw Error(fmt::format("folder {} cannot be made: {}", folder_.string(), error.message()));
        AtomicFile target(file(request));
        target.write(kHeader);
        target.write(sha256(payload));
        target.write(payload);
        target.commit(Durability::later);
        return true;
    } catch (const std::exception& error) {
        log::warning("statistics are not kept: {}", error.what());
        return false;
    }
}

}  // namespace tcompress::calibration
