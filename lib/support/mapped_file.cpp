#include "lib/support/mapped_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
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

struct Descriptor {
    explicit Descriptor(int opened) : number(opened) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (number >= 0) ::close(number);
    }
    int number;
};

Registry& registry() {
    static Registry instance;
    return instance;
}

}  // namespace

bool MappedFile::map(int descriptor, std::size_t size) {
    if (size == 0) return true;
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (address == MAP_FAILED) return false;
    data_ = static_cast<const std::byte*>(address);
    size_ = size;
    std::lock_guard lock(registry().mutex);
    registry().byEnd[data_ + size_] = this;
    return true;
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.number < 0) fail(path, std::strerror(errno));
    struct stat status {};
    if (::fstat(file.number, &status) != 0) fail(path, std::strerror(errno));
    if (S_ISDIR(status.st_mode)) fail(path, "it is a folder");
    if (!S_ISREG(status.st_mode)) fail(path, "it is not a regular file");

    std::shared_ptr<MappedFile> mapped(new MappedFile);
    mapped->path_ = path;
    if (!mapped->map(file.number, static_cast<std::size_t>(status.st_size))) fail(path, std::strerror(errno));
    return mapped;
}

std::shared_ptr<const MappedFile> MappedFile::spill(std::span<const std::byte> bytes) {
    std::error_code unknown;
    const std::filesystem::path folder = std::filesystem::temp_directory_path(unknown);
    if (unknown) return nullptr;
    std::string path = (folder / "tcompress-XXXXXX").string();
    const Descriptor file{::mkostemp(path.data(), O_CLOEXEC)};
    if (file.number < 0) return nullptr;
    ::unlink(path.c_str());
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t count = ::write(file.number, bytes.data() + done, bytes.size() - done);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return nullptr;
        done += static_cast<std::size_t>(count);
    }
    std::shared_ptr<MappedFile> mapped(new MappedFile);
    mapped->path_ = path;
    return mapped->map(file.number, bytes.size()) ? mapped : nullptr;
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
