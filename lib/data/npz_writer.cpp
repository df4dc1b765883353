// Our own writer of stored (uncompressed) zip archives: libzip 1.7 turns time stamps into local time, so its
// bytes would depend on the time zone. Layout: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12
// (central directory), 4.3.14–16 (end records), 4.5.3 (zip64 sizes).

#include <fmt/core.h>

#include <array>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lib/data/dataset.h"
#include "lib/data/npy.h"
#include "lib/support/atomic_file.h"
#include "lib/support/error.h"

namespace tcompress::data {
namespace {

/// CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320), one table step a byte.
class Crc32 {
  public:
    void update(std::span<const std::byte> bytes) {
        static const auto table = makeTable();
        for (const std::byte b : bytes)
            state_ = table[(state_ ^ static_cast<std::uint32_t>(b)) & 0xff] ^ state_ >> 8;
    }
    std::uint32_t value() const { return ~state_; }

  private:
    static std::array<std::uint32_t, 256> makeTable() {
        std::array<std::uint32_t, 256> table{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            std::uint32_t c = i;
            for (int bit = 0; bit < 8; ++bit) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
            table[i] = c;
        }
        return table;
    }
    std::uint32_t state_ = 0xFFFFFFFFu;
};

class Record {
  public:
    Record& u16(std::uint64_t value) { return put(value, 2); }
    Record& u32(std::uint64_t value) { return put(value, 4); }
    Record& u64(std::uint64_t value) { return put(value, 8); }
    Record& text(std::string_view text) {
        bytes_ += text;
        return *this;
    }
    const std::string& bytes() const { return bytes_; }

  private:
    Record& put(std::uint64_t value, int count) {
        for (int i = 0; i < count; ++i) bytes_ += static_cast<char>(value >> 8 * i & 0xff);
        return *this;
    }
    std::string bytes_;
};

constexpr std::uint64_t limit32 = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint64_t limit16 = std::numeric_limits<std::uint16_t>::max();
constexpr std::uint64_t zip64Version = 45, utf8Names = 1 << 11, stored = 0;
// 1980-01-01 00:00, the first moment that zip can tell.
constexpr std::uint64_t fixedTime = 0, fixedDate = 1 << 5 | 1;

struct Entry {
    std::string name;
    std::uint64_t offset, size;
    std::uint32_t crc;
};

std::span<const std::byte> asBytes(const std::string& text) {
    return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

// Sizes and the offset always go into a zip64 field, as numpy's own writer does: one layout for every size.
std::string localHeader(const Entry& entry) {
    return Record()
        .u32(0x04034b50)
        .u16(zip64Version)
        .u16(utf8Names)
        .u16(stored)
        .u16(fixedTime)
        .u16(fixedDate)
        .u32(entry.crc)
        .u32(limit32)
        .u32(limit32)
        .u16(entry.name.size())
        .u16(20)
        .text(entry.name)
        .u16(1)
        .u16(16)
        .u64(entry.size)
        .u64(entry.size)
        .bytes();
}

std::string centralHeader(const Entry& entry) {
    return Record()
        .u32(0x02014b50)
        .u16(zip64Version)
        .u16(zip64Version)
        .u16(utf8Names)
        .u16(stored)
        .u16(fixedTime)
        .u16(fixedDate)
        .u32(entry.crc)
        .u32(limit32)
        .u32(limit32)
        .u16(entry.name.size())
        .u16(28)
        .u16(0)
        .u16(0)
        .u16(0)
        .u32(0)
        .u32(limit32)
        .text(entry.name)
        .u16(1)
        .u16(24)
        .u64(entry.size)
        .u64(entry.size)
        .u64(entry.offset)
        .bytes();
}

std::string endRecords(std::uint64_t entries, std::uint64_t begin, std::uint64_t end) {
    return Record()
        .u32(0x06064b50)
        .u64(44)
        .u16(zip64Version)
        .u16(zip64Version)
        .u32(0)
        .u32(0)
        .u64(entries)
        .u64(entries)
        .u64(end - begin)
        .u64(begin)
        .u32(0x07064b50)
        .u32(0)
        .u64(end)
        .u32(1)
        .u32(0x06054b50)
        .u16(0)
        .u16(0)
        .u16(std::min(entries, limit16))
        .u16(std::min(entries, limit16))
        .u32(std::min(end - begin, limit32))
        .u32(std::min(begin, limit32))
        .u16(0)
        .bytes();
}

}  // namespace

void writeNpz(const std::filesystem::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays) {
    std::set<std::string> names;
    for (const auto& [name, tensor] : arrays) {
        if (!names.insert(name).second)
            throw DataError(fmt::format("{}: two arrays named '{}'", path.string(), name));
        if (name.size() + 4 > limit16)
            throw DataError(
                fmt::format("{}: an array name of {} bytes is too long", path.string(), name.size()));
    }
    AtomicFile file(path);
    std::vector<Entry> entries;
    for (const auto& [name, tensor] : arrays) {
        const std::string header = npyHeader(tensor);
        Crc32 crc;
        crc.update(asBytes(header));
        crc.update(tensor.bytes());
        entries.push_back({name + ".npy", file.position(), header.size() + tensor.sizeBytes(), crc.value()});
        file.write(localHeader(entries.back()));
        file.write(header);
        file.write(tensor.bytes());
    }
    const std::uint64_t begin = file.position();
    for (const Entry& entry : entries) file.write(centralHeader(entry));
    file.write(endRecords(entries.size(), begin, file.position()));
    file.commit();
}

}  // namespace tcompress::data
