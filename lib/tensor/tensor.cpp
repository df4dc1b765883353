#include "lib/tensor/tensor.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "lib/support/error.h"
#include "lib/support/mapped_file.h"

namespace tcompress {
namespace {

constexpr std::size_t cacheLine = 64;

/// Zero-filled, aligned to a cache line. calloc gives big blocks as untouched zero pages, so nothing is
/// written twice.
std::shared_ptr<std::byte> allocate(std::size_t size) {
    void* block = std::calloc(size + cacheLine, 1);
    if (block == nullptr) throw std::bad_alloc();
    auto address = reinterpret_cast<std::uintptr_t>(block);
    auto aligned = (address + cacheLine - 1) / cacheLine * cacheLine;
    return {reinterpret_cast<std::byte*>(aligned), [block](std::byte*) { std::free(block); }};
}

std::size_t alignmentOf(DType dtype) {
    auto bytes = static_cast<std::size_t>(bitsPerElement(dtype)) / 8;
    return std::clamp<std::size_t>(bytes, 1, alignof(double));
}

void copyBytes(std::byte* target, const std::byte* source, std::size_t size) {
    if (size > 0) std::memcpy(target, source, size);
}

}  // namespace

struct Tensor::AlignedCopy {
    std::once_flag once;
    std::shared_ptr<std::byte> bytes;
};

std::int64_t elementCount(const Shape& shape) {
    std::int64_t count = 1;
    for (std::int64_t size : shape) {
        // Shapes come out of files and out of what a model computes: these are no bugs of ours.
        if (size < 0) throw ModelError(fmt::format("negative dimension in shape {}", toString(shape)));
        if (__builtin_mul_overflow(count, size, &count)) {
            throw ModelError(fmt::format("shape {} has too many elements", toString(shape)));
        }
    }
    return count;
}

std::string toString(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Tensor::Tensor(DType dtype, Shape shape)
    : dtype_(dtype), shape_(std::move(shape)), count_(elementCount(shape_)), owned_(true) {
    bytes_ = allocate(sizeBytes());
}

Tensor Tensor::share(DType dtype, Shape shape, std::shared_ptr<const std::byte> bytes) {
    Tensor tensor;
    tensor.dtype_ = dtype;
    tensor.count_ = elementCount(shape);
    tensor.shape_ = std::move(shape);
    tensor.bytes_ = std::move(bytes);
    if (reinterpret_cast<std::uintptr_t>(tensor.bytes_.get()) % alignmentOf(dtype) != 0) {
        tensor.alignedCopy_ = std::make_shared<AlignedCopy>();
    }
    return tensor;
}

const std::byte* Tensor::alignedBytes() const {
    if (!alignedCopy_) return bytes_.get();
    std::call_once(alignedCopy_->once, [this] {
        alignedCopy_->bytes = allocate(sizeBytes());
        copyBytes(alignedCopy_->bytes.get(), bytes_.get(), sizeBytes());
        releasePages();
    });
    return alignedCopy_->bytes.get();
}

std::span<std::byte> Tensor::mutableBytes() {
    if (!owned_ || bytes_.use_count() > 1) {
        std::shared_ptr<std::byte> copy = allocate(sizeBytes());
        copyBytes(copy.get(), bytes_.get(), sizeBytes());
        bytes_ = std::move(copy);
        alignedCopy_.reset();
        owned_ = true;
    }
    return {const_cast<std::byte*>(bytes_.get()), sizeBytes()};
}

Tensor Tensor::reshaped(Shape shape) const {
    std::int64_t count = elementCount(shape);
    TCOMPRESS_CHECK(count == count_,
                    fmt::format("cannot reshape {} to {}", toString(shape_), toString(shape)));
    Tensor result = *this;
    result.shape_ = std::move(shape);
    return result;
}

void Tensor::releasePages() const {
    if (!owned_) releaseIfMapped(bytes());
}

}  // namespace tcompress
