#include "lib/support/mapped_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>

#include "lib/support/error.h"

namespace tcompress {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* reason) {
    throw ModelError(fmt::format("cannot read {}: {}", path.string(), reason));
}

/// The live mappings by their end address. madvise on memory that is not a file's would wipe it, so
/// releaseIfMapped must know.
struct Registry {
    std::mutex mutex;
    std::map<const std::byte*, const MappedFile*> byEnd;
};

Registry& registry() {
    static Registry instance;
    return instance;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) fail(path, std::strerror(errno));
    struct Closer {
        int descriptor;
        ~Closer() { ::close(descriptor); }
    } closer{descriptor};

    struct stat status {};
    if (::fstat(descriptor, &status) != 0) fail(path, std::strerror(errno));
    if (S_ISDIR(status.st_mode)) fail(path, "it is a folder");
    if (!S_ISREG(status.st_mode)) fail(path, "it is not a regular file");

    std::shared_ptr<MappedFile> file(new MappedFile);
    file->path_ = path;
    file->size_ = static_cast<std::size_t>(status.st_size);
    if (file->size_ == 0) return file;
    void* address = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) {
        file->size_ = 0;
        fail(path, std::strerror(errno));
    }
    file->data_ = static_cast<const std::byte*>(address);
    std::lock_guard lock(registry().mutex);
    registry().byEnd[file->data_ + file->size_] = file.get();
    return file;
}

MappedFile::~MappedFile() {
    if (data_ == nullptr) return;
    {
        std::lock_guard lock(registry().mutex);
        registry().byEnd.erase(data_ + size_);
    }
    ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(std::span<const std::byte> range) const {
    if (data_ == nullptr || range.empty()) return;
    // The system maps what lies around a page that is asked for too, up to a huge page of its file cache, so
    // neighbours of the range have come with it. They go too: they are clean and can be read again.
    constexpr std::uintptr_t kWindow = std::uintptr_t{2} << 20;
    const auto first = reinterpret_cast<std::uintptr_t>(data_);
    const auto from = reinterpret_cast<std::uintptr_t>(range.data());
    const std::uintptr_t begin = std::max(first, from / kWindow * kWindow);
    const std::uintptr_t end =
        std::min(first + size_, (from + range.size() + kWindow - 1) / kWindow * kWindow);
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void releaseIfMapped(std::span<const std::byte> range) {
    if (range.empty()) return;
    std::lock_guard lock(registry().mutex);
    auto found = registry().byEnd.upper_bound(range.data());
    if (found == registry().byEnd.end()) return;
    std::span<const std::byte> mapped = found->second->bytes();
    bool inside =
        range.data() >= mapped.data() && range.data() + range.size() <= mapped.data() + mapped.size();
    if (inside) found->second->release(range);
}

}  // namespace tcompress
