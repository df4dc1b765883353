#pragma once
// Tensors that are kept for later: in memory up to a limit, the rest in a temporary file that has no name and
// vanishes with the process.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <vector>

#include "lib/tensor/tensor.h"

namespace tcompress::calibration {

class TensorStore {
  public:
    using Slot = std::size_t;

    /// The file is made in `folder` when it is first needed; the system's folder for temporary files when it
    /// is empty.
    explicit TensorStore(std::uint64_t memoryLimitBytes, std::filesystem::path folder = {});
    ~TensorStore();
    TensorStore(TensorStore&&) noexcept;
    TensorStore& operator=(TensorStore&&) noexcept;

    /// Keeps a copy. Throws Error when the temporary file cannot be written.
    Slot add(const Tensor& tensor);
    /// Takes the place of what the slot held.
    void replace(Slot slot, const Tensor& tensor);
    Tensor get(Slot slot) const;

    std::uint64_t memoryBytes() const { return memoryBytes_; }
    /// Size of the temporary file: room that became free is used again.
    std::uint64_t fileBytes() const { return fileBytes_; }

  private:
    struct Entry {
        DType dtype = DType::undefined;
        Shape shape;
        Tensor inMemory;  ///< type undefined: in the file
        std::uint64_t offset = 0, room = 0;
    };
    class File;
    void write(Entry& entry, const Tensor& tensor);
    void release(Entry& entry);
    void placeInFile(Entry& entry, std::uint64_t bytes);

    std::uint64_t memoryLimitBytes_;
    std::filesystem::path folder_;
    std::vector<Entry> entries_;
    std::unique_ptr<File> file_;
    std::multimap<std::uint64_t, std::uint64_t> freeRooms_;  // offsets by size
    std::uint64_t memoryBytes_ = 0;
    std::uint64_t fileBytes_ = 0;
};

}  // namespace tcompress::calibration
