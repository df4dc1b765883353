#pragma once
// What a plan hands from node to node: a tensor, a sequence of tensors, or nothing (an optional without a value).

#include <memory>
#include <vector>

#include "lib/tensor/tensor.h"

namespace tcompress::exec {

using Sequence = std::vector<Tensor>;

struct Datum {
    Tensor tensor;  ///< of undefined type: this is no tensor
    std::shared_ptr<const Sequence> sequence;

    Datum() = default;
    Datum(Tensor value) : tensor(std::move(value)) {}
    Datum(Sequence value) : sequence(std::make_shared<const Sequence>(std::move(value))) {}

    bool isTensor() const { return tensor.dtype() != DType::undefined; }
    bool isEmpty() const { return !isTensor() && !sequence; }
};

}  // namespace tcompress::exec
