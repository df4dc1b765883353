#include "lib/calibration/tensor_store.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "lib/support/error.h"

namespace tcompress::calibration {

/// A file without a name.
class TensorStore::File {
  public:
    explicit File(const std::filesystem::path& folder) : folder_(folder) {
        std::string name = (folder / "tcompress-XXXXXX").string();
        descriptor_ = ::mkstemp(name.data());
        if (descriptor_ < 0) fail("made");
        ::unlink(name.c_str());
    }
    ~File() { ::close(descriptor_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    void write(std::span<const std::byte> bytes, std::uint64_t offset) const {
        while (!bytes.empty()) {
            const ssize_t done =
                ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
            if (done < 0 && errno == EINTR) continue;
            if (done <= 0) fail("written");
            bytes = bytes.subspan(static_cast<std::size_t>(done));
            offset += static_cast<std::uint64_t>(done);
        }
    }
    void read(std::span<std::byte> bytes, std::uint64_t offset) const {
        while (!bytes.empty()) {
            const ssize_t done = ::pread(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
            if (done < 0 && errno == EINTR) continue;
            if (done <= 0) fail("read");
            bytes = bytes.subspan(static_cast<std::size_t>(done));
            offset += static_cast<std::uint64_t>(done);
        }
    }

  private:
    [[noreturn]] void fail(std::string_view what) const {
        throw Error(fmt::format(
            "{}: the temporary file for calibration data cannot be {}: {}; set TMPDIR to a folder with "
            "room, or raise memory_limit",
            folder_.string(), what, std::strerror(errno)));
    }

    std::filesystem::path folder_;
    int descriptor_ = -1;
};

TensorStore::TensorStore(std::uint64_t memoryLimitBytes, std::filesystem::path folder)
    : memoryLimitBytes_(memoryLimitBytes), folder_(std::move(folder)) {}
TensorStore::~TensorStore() = default;
TensorStore::TensorStore(TensorStore&&) noexcept = default;
TensorStore& TensorStore::operator=(TensorStore&&) noexcept = default;

TensorStore::Slot TensorStore::add(const Tensor& tensor) {
    entries_.emplace_back();
    write(entries_.back(), tensor);
    return entries_.size() - 1;
}

void TensorStore::replace(Slot slot, const Tensor& tensor) {
    release(entries_.at(slot));
    write(entries_[slot], tensor);
}

Tensor TensorStore::get(Slot slot) const {
    const Entry& entry = entries_.at(slot);
    if (entry.inMemory.dtype() != DType::undefined) return entry.inMemory;
    Tensor tensor(entry.dtype, entry.shape);
    if (tensor.size() > 0) file_->read(tensor.mutableBytes(), entry.offset);
    return tensor;
}

void TensorStore::write(Entry& entry, const Tensor& tensor) {
    entry.dtype = tensor.dtype();
    entry.shape = tensor.shape();
    const std::uint64_t bytes = tensor.sizeBytes();
    if (memoryBytes_ + bytes <= memoryLimitBytes_) {
        // The bytes given may be part of a larger buffer that others wait for.
        entry.inMemory = Tensor(tensor.dtype(), tensor.shape());
        std::copy(tensor.bytes().begin(), tensor.bytes().end(), entry.inMemory.mutableBytes().begin());
        memoryBytes_ += bytes;
        return;
    }
    if (!file_)
        file_ = std::make_unique<File>(folder_.empty() ? std::filesystem::temp_directory_path() : folder_);
    placeInFile(entry, bytes);
    file_->write(tensor.bytes(), entry.offset);
}

void TensorStore::release(Entry& entry) {
    if (entry.inMemory.dtype() != DType::undefined) memoryBytes_ -= entry.inMemory.sizeBytes();
    if (entry.room > 0) freeRooms_.emplace(entry.room, entry.offset);
    entry = Entry();
}

void TensorStore::placeInFile(Entry& entry, std::uint64_t bytes) {
    const auto fits = freeRooms_.lower_bound(bytes);
    if (fits != freeRooms_.end()) {
        entry.room = fits->first;
        entry.offset = fits->second;
        freeRooms_.erase(fits);
        return;
    }
    entry.room = bytes;
    entry.offset = fileBytes_;
    fileBytes_ += bytes;
}

}  // namespace tcompress::calibration
