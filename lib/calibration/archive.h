#pragma once
// Numbers to bytes and back, by one description of a statistic's fields for both ways:
//     void transfer(Archive& archive) override { archive(rows_), archive(sums_); }

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "lib/support/error.h"

namespace tcompress::calibration {

class Archive {
  public:
    /// Writes.
    Archive() = default;
    /// Reads; the bytes must outlive the archive.
    explicit Archive(std::span<const std::byte> bytes) : isReading_(true), unread_(bytes) {}

    template <class T>
    requires std::is_trivially_copyable_v<T>
    void operator()(T& value) { transfer(&value, sizeof value); }
    template <class T>
    requires std::is_trivially_copyable_v<T>
    void operator()(std::vector<T>& values) {
        auto count = static_cast<std::uint64_t>(values.size());
        (*this)(count);
        if (isReading_ && count > unread_.size() / sizeof(T)) throw Error("a statistic is cut short");
        values.resize(static_cast<std::size_t>(count));
        transfer(values.data(), values.size() * sizeof(T));
    }
    template <class K, class V>
    void operator()(std::map<K, V>& entries) {
        std::vector<K> keys;
        std::vector<V> values;
        for (const auto& [key, value] : entries) {
            keys.push_back(key);
            values.push_back(value);
        }
        (*this)(keys);
        (*this)(values);
        if (!isReading_) return;
        entries.clear();
        if (keys.size() != values.size()) throw Error("a statistic is damaged");
        for (std::size_t i = 0; i < keys.size(); ++i) entries[keys[i]] = values[i];
    }

    /// An [n, n] matrix that is its own transpose, as one triangle.
    template <class T>
    void symmetric(std::vector<T>& matrix, std::int64_t n) {
        const auto width = static_cast<std::size_t>(n);
        std::vector<T> triangle;
        if (!isReading_)
            for (std::size_t row = 0; row < width; ++row)
                triangle.insert(triangle.end(), &matrix[row * width + row], &matrix[row * width] + width);
        (*this)(triangle);
        if (!isReading_) return;
        if (n < 0 || triangle.size() != width * (width + 1) / 2) throw Error("a statistic is damaged");
        matrix.resize(width * width);
        auto next = triangle.begin();
        for (std::size_t row = 0; row < width; ++row)
            for (std::size_t column = row; column < width; ++column)
                matrix[row * width + column] = matrix[column * width + row] = *next++;
    }

    /// What was written.
    std::vector<std::byte> take() { return std::move(written_); }
    /// Whether everything was read.
    bool isExhausted() const { return unread_.empty(); }

  private:
    void transfer(void* value, std::size_t bytes) {
        auto* const place = static_cast<std::byte*>(value);
        if (!isReading_) {
            written_.insert(written_.end(), place, place + bytes);
            return;
        }
        if (bytes > unread_.size()) throw Error("a statistic is cut short");
        if (bytes > 0) std::memcpy(place, unread_.data(), bytes);
        unread_ = unread_.subspan(bytes);
    }

    bool isReading_ = false;
    std::span<const std::byte> unread_;
    std::vector<std::byte> written_;
};

}  // namespace tcompress::calibration
