#pragma once
// A file mapped read-only into memory. The mapping lives as long as any shared owner of its bytes.

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace tcompress {

class MappedFile {
  public:
    /// Throws ModelError naming the path when it is missing, not a regular file or not readable.
    static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
    /// The same bytes in a temporary file that has no name and goes with its last owner: memory that the system
    /// may take back once it is released. Null when no such file can be written.
    static std::shared_ptr<const MappedFile> spill(std::span<const std::byte> bytes);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::span<const std::byte> bytes() const { return {data_, size_}; }
    const std::filesystem::path& path() const { return path_; }
    /// Tells the system that these pages are not needed any more, so that they do not count in the peak
    /// memory. They stay readable: the next access brings them back.
    void release(std::span<const std::byte> range) const;
    /// Copies bytes of the file by the system's read: none of its pages enters this process' memory, and no
    /// page fault is paid, which takes half the time of looking at mapped pages once. Throws ModelError when
    /// the file has become shorter.
    void read(std::span<const std::byte> range, std::byte* target) const;

  private:
    MappedFile() = default;
    /// Takes the descriptor. False when the system refuses; errno says why.
    bool map(int descriptor, std::size_t size);
    std::filesystem::path path_;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    int descriptor_ = -1;  ///< closed where many files are open: pages are copied then
};

/// MappedFile::release for bytes of which it is not known whose they are; does nothing unless they lie in a
/// mapped file.
void releaseIfMapped(std::span<const std::byte> range);

/// MappedFile::read for bytes of which it is not known whose they are: false, and nothing done, unless they
/// lie in a mapped file.
bool readIfMapped(std::span<const std::byte> range, std::byte* target);

}  // namespace tcompress
