#pragma once
// What a row of class scores says: shared by task metrics and fidelity.

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tensor/tensor.h"

namespace tcompress::measure {

/// What the last axis of an output holds.
enum class ScoreKind {
    none,           ///< no distribution over classes
    logits,         ///< softmax makes it one
    probabilities,  ///< is one already
};

/// Guesses from the output's name and values: "…logit…" are logits; rows in [0, 1] that sum to 1 are
/// probabilities.
ScoreKind scoreKind(std::string_view outputName, const Tensor& output);

/// Position of the largest value (the first of equals); -1 when a value is NaN.
std::int64_t argmax(std::span<const float> row);

/// log p of every class into `logs`. Rows with NaN or +infinity give NaN.
void logProbabilities(std::span<const float> row, ScoreKind kind, std::span<double> logs);

/// The values as float32, without a copy when they are.
class FloatView {
  public:
    explicit FloatView(const Tensor& tensor)
        : copy_(tensor.dtype() == DType::float32 ? std::vector<float>() : toFloat32(tensor)),
          values_(tensor.dtype() == DType::float32 ? tensor.data<float>() : std::span<const float>(copy_)) {}
    FloatView(const FloatView&) = delete;
    FloatView& operator=(const FloatView&) = delete;

    std::span<const float> values() const { return values_; }
    /// The i-th of `count` equal parts.
    std::span<const float> part(std::int64_t i, std::int64_t count) const {
        const std::size_t size = values_.size() / static_cast<std::size_t>(count);
        return values_.subspan(static_cast<std::size_t>(i) * size, size);
    }

  private:
    std::vector<float> copy_;
    std::span<const float> values_;
};

}  // namespace tcompress::measure
