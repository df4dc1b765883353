#pragma once
// L·Y·R for many Y: the product with a metric over the inputs of a layer on one side and one over its outputs on the
// other. Matrices Y are outputs × inputs, row-major.

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/matmul.h"

namespace tcompress::passes {

class TwoSidedProduct {
  public:
    /// `left` [outputs, outputs], empty for the identity; `right` [inputs, inputs].
    TwoSidedProduct(std::vector<float> left, std::span<const float> right, std::int64_t inputs);

    /// product = L·values·R + added. `product` is none of the others; `added` may be empty.
    void operator()(std::span<const float> values, std::span<float> product, std::span<const float> added = {});

  private:
    std::int64_t inputs_;
    std::vector<float> left_, between_;
    kernels::PackedWeightsPtr right_;
};

}  // namespace tcompress::passes
