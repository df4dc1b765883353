#pragma once
// The packed form of a constant B: panels of kPanelColumns columns, [panel][K][kPanelColumns], the last one
// filled up with zeros.

#include "kernels/aligned_buffer.h"
#include "kernels/matmul.h"
#include "kernels/native/gemm_kernel.h"
#include "kernels/tiles.h"

namespace tcompress::kernels {

/// One panel: `columns` ≤ kPanelColumns columns of B from b on. target holds k · kPanelColumns floats.
void packPanel(const float* b, std::int64_t k, std::int64_t columns, std::int64_t rowStride,
               std::int64_t columnStride, float* target);

class PackedWeights {
  public:
    PackedWeights(std::int64_t k, std::int64_t n)
        : k_(k), n_(n), panels_(ceilDivide(n, kPanelColumns) * k * kPanelColumns) {}

    std::int64_t k() const { return k_; }
    std::int64_t n() const { return n_; }
    const float* panel(std::int64_t index) const { return panels_.data() + index * k_ * kPanelColumns; }
    float* panel(std::int64_t index) { return panels_.data() + index * k_ * kPanelColumns; }
    float element(std::int64_t k, std::int64_t n) const {
        return panel(n / kPanelColumns)[k * kPanelColumns + n % kPanelColumns];
    }
    std::size_t sizeBytes() const { return static_cast<std::size_t>(panels_.size()) * sizeof(float); }

  private:
    std::int64_t k_ = 0, n_ = 0;
    AlignedBuffer<float> panels_;
};

}  // namespace tcompress::kernels
