#pragma once
// What a layer's output loses by its weights' errors, kept up while weights move: f = tr(EᵀHE) with E = W − V and
// H = XᵀX, and G = H·E. Moving V by D changes f by tr(DᵀHD) − 2·tr(DᵀG).

#include <cstdint>
#include <span>
#include <vector>

namespace tcompress::passes {

class OutputGradient {
  public:
    /// H: `secondMoment` (XᵀX or any multiple of it, [inputs, inputs] row-major) divided by its mean diagonal, with
    /// `damp` added to the diagonal. G is zero.
    OutputGradient(std::span<const double> secondMoment, std::int64_t inputs, std::int64_t channels, double damp);

    /// out [inputs, channels] ← H[:, begin … end) · rows, of which there are end − begin.
    void product(std::int64_t begin, std::int64_t end, const float* rows, float* out) const;
    /// G ← G + factor · H[:, begin … end) · rows: factor 1 where E gains the rows, −1 where V does.
    void add(std::int64_t begin, std::int64_t end, const float* rows, float factor);

    float h(std::int64_t row, std::int64_t column) const {
        return h_[static_cast<std::size_t>(row * inputs_ + column)];
    }
    const float* hRow(std::int64_t row) const { return h_.data() + row * inputs_; }
    /// [inputs, channels].
    std::vector<float>& values() { return values_; }
    const std::vector<float>& values() const { return values_; }
    const float* row(std::int64_t input) const { return values_.data() + input * channels_; }

  private:
    std::int64_t inputs_, channels_;
    std::vector<float> h_, values_;
};

/// Σ a·b of each column over rows [begin, end) of matrices with `columns` columns.
std::vector<double> columnProducts(std::span<const float> a, std::span<const float> b, std::int64_t columns,
                                   std::int64_t begin, std::int64_t end);

}  // namespace tcompress::passes
