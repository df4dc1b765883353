#pragma once
// A file that appears whole or not at all: bytes go to a temporary file in the target's folder; commit()
// flushes it to disk and renames it over the target. Without commit() the temporary file is removed, also
// when the process is interrupted (removeTemporaryFiles is async-signal-safe).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace tcompress {

/// Whether a file is on the disk when commit() returns; `later` is for what is checked when it is read and can be made
/// again: a crash of the system, not of the process, may leave it cut short.
enum class Durability { flushed, later };

class AtomicFile {
  public:
    /// Throws Error naming the path and the system's reason when the folder cannot be written.
    explicit AtomicFile(std::filesystem::path target);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(std::span<const std::byte> bytes);
    void write(std::string_view text);
    std::uint64_t position() const { return position_; }
    /// Where the bytes are until commit(): lets a writer check the finished file before it takes the target's
    /// place.
    const std::filesystem::path& temporaryPath() const { return temporary_; }
    /// Flushes buffered bytes so that temporaryPath() can be read.
    void flush();
    void commit(Durability durability = Durability::flushed);

  private:
    void writeThrough(std::span<const std::byte> bytes);

    std::filesystem::path target_;
    std::filesystem::path temporary_;  ///< empty once committed
    std::vector<std::byte> buffer_;
    int descriptor_ = -1;
    std::uint64_t position_ = 0;
};

/// Removes every temporary file that is not committed. Safe to call in a signal handler.
void removeTemporaryFiles() noexcept;

/// Writes a small text file atomically.
void writeFileAtomically(const std::filesystem::path& target, std::string_view text);

}  // namespace tcompress
