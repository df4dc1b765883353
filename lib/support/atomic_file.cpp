#include "lib/support/atomic_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <mutex>
#include <string>
#include <system_error>

#include "lib/support/error.h"

namespace tcompress {
namespace {

/// Paths of the temporary files that exist now. Fixed storage, because a signal handler may neither allocate
/// nor lock: a slot is in use when its flag is set, and the flag is set only after its path is complete.
struct Slot {
    std::atomic<bool> inUse{false};
    std::array<char, PATH_MAX> path{};
};
std::array<Slot, 64> slots;
std::mutex slotsMutex;

void remember(const std::string& path) {
    std::lock_guard lock(slotsMutex);
    if (path.size() + 1 > slots[0].path.size()) return;
    for (Slot& slot : slots) {
        if (slot.inUse.load()) continue;
        std::memcpy(slot.path.data(), path.c_str(), path.size() + 1);
        slot.inUse.store(true);
        return;
    }
}

void forget(const std::string& path) {
    std::lock_guard lock(slotsMutex);
    for (Slot& slot : slots) {
        if (slot.inUse.load() && path == slot.path.data()) slot.inUse.store(false);
    }
}

[[noreturn]] void fail(const std::filesystem::path& target, int error) {
    throw Error(fmt::format("cannot write {}: {}", target.string(), std::strerror(error)));
}

void syncFolder(const std::filesystem::path& folder) {
    int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return;  // a folder that may be written but not listed; the rename is atomic all the same
    ::fsync(descriptor);
    ::close(descriptor);
}

std::filesystem::path folderOf(const std::filesystem::path& target) {
    std::filesystem::path folder = target.parent_path();
    return folder.empty() ? "." : folder;
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
    if (std::filesystem::is_directory(target_)) fail(target_, EISDIR);
    static std::atomic<unsigned> counter{0};
    temporary_ = folderOf(target_) /
                 fmt::format(".{}.tmp-{}-{}", target_.filename().string(), ::getpid(), counter.fetch_add(1));
    // Remembered first: an interrupt between the two lines must not leave the file behind.
    remember(temporary_.string());
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0) {
        int error = errno;
        forget(temporary_.string());
        fail(target_, error);
    }
}

AtomicFile::~AtomicFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!temporary_.empty()) {
        ::unlink(temporary_.c_str());
        forget(temporary_.string());
    }
}

void AtomicFile::write(std::span<const std::byte> bytes) {
    // Short writes are gathered, long ones go to the system directly.
    constexpr std::size_t bufferBytes = std::size_t{1} << 18;
    position_ += bytes.size();
    if (buffer_.size() + bytes.size() <= bufferBytes) {
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
        return;
    }
    flush();
    writeThrough(bytes);
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::writeThrough(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) fail(target_, errno);
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

void AtomicFile::flush() {
    writeThrough(buffer_);
    buffer_.clear();
}

void AtomicFile::commit(Durability durability) {
    flush();
    // The permissions of a file that is replaced are kept; a new one has those the umask leaves.
    struct stat old {};
    if (::stat(target_.c_str(), &old) == 0) ::fchmod(descriptor_, old.st_mode & 07777);
    if (durability == Durability::flushed && ::fsync(descriptor_) != 0) fail(target_, errno);
    int descriptor = descriptor_;
    descriptor_ = -1;
    if (::close(descriptor) != 0) fail(target_, errno);
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(target_, errno);
    forget(temporary_.string());
    temporary_.clear();
    if (durability == Durability::flushed) syncFolder(folderOf(target_));
}

void removeTemporaryFiles() noexcept {
    for (Slot& slot : slots) {
        if (slot.inUse.load()) ::unlink(slot.path.data());
    }
}

void writeFileAtomically(const std::filesystem::path& target, std::string_view text) {
    AtomicFile file(target);
    file.write(text);
    file.commit();
}

}  // namespace tcompress
