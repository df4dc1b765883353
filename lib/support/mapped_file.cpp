#include "lib/support/mapped_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

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
    int release() { return std::exchange(number, -1); }
    int number;
};

/// Files that may stay open to be read: a model can have one for each weight, and a process must not have
/// more than a thousand as a rule, and fewer where its user or system says so.
int mostOpen() {
    constexpr rlim_t kMost = 100;
    rlimit limit{};
    return static_cast<int>(::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? std::min(kMost, limit.rlim_cur / 4)
                                                                    : kMost);
}
std::atomic<int> filesOpen{0};

Registry& registry() {
    static Registry instance;
    return instance;
}

/// The file in which the range lies. It outlives the call: whoever has the range owns it.
const MappedFile* fileOf(std::span<const std::byte> range) {
    if (range.empty()) return nullptr;
    std::lock_guard lock(registry().mutex);
    auto found = registry().byEnd.upper_bound(range.data());
    if (found == registry().byEnd.end()) return nullptr;
    std::span<const std::byte> mapped = found->second->bytes();
    const bool inside =
        range.data() >= mapped.data() && range.data() + range.size() <= mapped.data() + mapped.size();
    return inside ? found->second : nullptr;
}

}  // namespace

bool MappedFile::map(int opened, std::size_t size) {
    Descriptor descriptor{opened};
    if (size == 0) return true;
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.number, 0);
    if (address == MAP_FAILED) return false;
    data_ = static_cast<const std::byte*>(address);
    size_ = size;
    if (filesOpen.fetch_add(1) < mostOpen())
        descriptor_ = descriptor.release();
    else
        filesOpen.fetch_sub(1);
    std::lock_guard lock(registry().mutex);
    registry().byEnd[data_ + size_] = this;
    return true;
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.number < 0) fail(path, std::strerror(errno));
    struct stat status {};
    if (::fstat(file.number, &status) != 0) fail(path, std::strerror(errno));
    if (S_ISDIR(status.st_mode)) fail(path, "it is a folder");
    if (!S_ISREG(status.st_mode)) fail(path, "it is not a regular file");

    std::shared_ptr<MappedFile> mapped(new MappedFile);
    mapped->path_ = path;
    if (!mapped->map(file.release(), static_cast<std::size_t>(status.st_size)))
        fail(path, std::strerror(errno));
    return mapped;
}

std::shared_ptr<const MappedFile> MappedFile::spill(std::span<const std::byte> bytes) {
    std::error_code unknown;
    const std::filesystem::path folder = std::filesystem::temp_directory_path(unknown);
    if (unknown) return nullptr;
    std::string path = (folder / "tcompress-XXXXXX").string();
    Descriptor file{::mkostemp(path.data(), O_CLOEXEC)};
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
    return mapped->map(file.release(), bytes.size()) ? mapped : nullptr;
}

MappedFile::~MappedFile() {
    if (data_ == nullptr) return;
    {
        std::lock_guard lock(registry().mutex);
        registry().byEnd.erase(data_ + size_);
    }
    ::munmap(const_cast<std::byte*>(data_), size_);
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    filesOpen.fetch_sub(1);
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

void MappedFile::read(std::span<const std::byte> range, std::byte* target) const {
    if (descriptor_ < 0) {
        std::memcpy(target, range.data(), range.size());
        release(range);
        return;
    }
    while (!range.empty()) {
        const ssize_t count = ::pread(descriptor_, target, range.size(), range.data() - data_);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) fail(path_, std::strerror(errno));
        if (count == 0) fail(path_, "it became shorter while it was read");
        range = range.subspan(static_cast<std::size_t>(count));
        target += count;
    }
}

void releaseIfMapped(std::span<const std::byte> range) {
    if (const MappedFile* file = fileOf(range)) file->release(range);
}

bool readIfMapped(std::span<const std::byte> range, std::byte* target) {
    const MappedFile* file = fileOf(range);
    if (file != nullptr) file->read(range, target);
    return file != nullptr;
}

}  // namespace tcompress
