#include <fmt/core.h>
#include <unistd.h>
#include <zip.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "lib/data/npy.h"
#include "lib/data/readers.h"
#include "lib/support/error.h"
#include "lib/support/log.h"

namespace tcompress::data {
namespace {

// Deflate cannot expand more than 1032-fold (zlib, "Maximum Compression Factor"); bzip2 and xz archives,
// which numpy never writes, can, and are refused by method.
constexpr std::uint64_t maxDeflateRatio = 1032;
constexpr zip_int64_t maxEntries = 100'000;

struct CloseArchive {
    void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseEntry {
    void operator()(zip_file_t* entry) const { zip_fclose(entry); }
};
using Archive = std::unique_ptr<zip_t, CloseArchive>;

Archive openArchive(const std::filesystem::path& path) {
    int code = 0;
    Archive archive(zip_open(path.c_str(), ZIP_RDONLY, &code));
    if (!archive) {
        zip_error_t error;
        zip_error_init_with_code(&error, code);
        const std::string reason = zip_error_strerror(&error);
        zip_error_fini(&error);
        throw DataError(fmt::format("{}: cannot be read as .npz ({})", path.string(), reason));
    }
    return archive;
}

/// Reads the whole entry; the size was found to be possible for the compressed bytes that are there.
Tensor readEntry(zip_t* archive, const zip_stat_t& stat, const std::string& what) {
    std::unique_ptr<zip_file_t, CloseEntry> entry(zip_fopen_index(archive, stat.index, 0));
    if (!entry) throw DataError(fmt::format("{}: {}", what, zip_strerror(archive)));

    const auto read = [&](std::byte* target, std::uint64_t size) {
        std::uint64_t done = 0;
        while (done < size) {
            const zip_int64_t count = zip_fread(entry.get(), target + done, size - done);
            if (count < 0)
                throw DataError(fmt::format("{}: damaged ({})", what, zip_file_strerror(entry.get())));
            if (count == 0) break;
            done += static_cast<std::uint64_t>(count);
        }
        return done;
    };
    // The header first: an entry whose declared size is not what its header needs is never allocated.
    std::vector<std::byte> start(std::min<std::uint64_t>(stat.size, maxNpyHeaderBytes + 16));
    start.resize(read(start.data(), start.size()));
    const NpyHeader header = parseNpyHeader(start, what);
    if (header.fileBytes() != stat.size)
        throw DataError(fmt::format("{}: {} of shape {} needs {} bytes, the entry declares {}", what,
                                    name(header.dtype), toString(header.shape), header.fileBytes(),
                                    stat.size));
    requireMemoryFor(stat.size, what);

    std::shared_ptr<std::byte[]> bytes(new std::byte[std::max<std::uint64_t>(stat.size, 1)]);
    std::copy(start.begin(), start.end(), bytes.get());
    const std::uint64_t done = start.size() + read(bytes.get() + start.size(), stat.size - start.size());
    if (done != stat.size)
        throw DataError(fmt::format("{}: ends after {} of {} bytes", what, done, stat.size));
    // Reading past the end makes libzip compare the checksum.
    std::byte beyond{};
    read(&beyond, 1);
    return npyTensor(std::shared_ptr<const std::byte>(bytes, bytes.get()), stat.size, what);
}

}  // namespace

void requireMemoryFor(std::uint64_t bytes, const std::string& what) {
    const auto memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                        static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    if (bytes > memory)
        throw DataError(fmt::format("{}: needs {:.1f} GiB, this machine has {:.1f} GiB of memory", what,
                                    static_cast<double>(bytes) / (1 << 30),
                                    static_cast<double>(memory) / (1 << 30)));
}

Arrays readNpz(const std::filesystem::path& path) {
    const Archive archive = openArchive(path);
    const zip_int64_t count = zip_get_num_entries(archive.get(), 0);
    if (count > maxEntries)
        throw DataError(fmt::format("{}: {} entries, at most {} are read", path.string(), count, maxEntries));

    Arrays arrays;
    std::uint64_t total = 0;
    for (zip_int64_t i = 0; i < count; ++i) {
        zip_stat_t stat;
        if (zip_stat_index(archive.get(), static_cast<zip_uint64_t>(i), 0, &stat) != 0 ||
            !(stat.valid & ZIP_STAT_NAME) || !(stat.valid & ZIP_STAT_SIZE) ||
            !(stat.valid & ZIP_STAT_COMP_SIZE))
            throw DataError(fmt::format("{}: entry {} has no name or size", path.string(), i));
        std::string name = stat.name;
        const std::string what = fmt::format("{}: array '{}'", path.string(), name);
        if (!std::string_view(name).ends_with(".npy")) {
            log::info("{}: entry '{}' is no .npy array and is left out", path.string(), name);
            continue;
        }
        name.resize(name.size() - 4);
        const bool plain = !(stat.valid & ZIP_STAT_COMP_METHOD) || stat.comp_method == ZIP_CM_STORE;
        if (!plain && stat.comp_method != ZIP_CM_DEFLATE)
            throw DataError(
                fmt::format("{}: compression method {} is not used by .npz", what, stat.comp_method));
        if (stat.size > (plain ? stat.comp_size : stat.comp_size * maxDeflateRatio + 64))
            throw DataError(fmt::format("{}: declares {} bytes, its {} stored bytes cannot hold them", what,
                                        stat.size, stat.comp_size));
        total += stat.size;
        requireMemoryFor(total, path.string());
        if (!arrays.emplace(name, readEntry(archive.get(), stat, what)).second)
            throw DataError(fmt::format("{}: two arrays of this name", what));
    }
    return arrays;
}

}  // namespace tcompress::data
