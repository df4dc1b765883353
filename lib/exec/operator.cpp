#include "lib/exec/operator.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "lib/support/error.h"

namespace tcompress::exec {

namespace {

/// A model or a feed can ask for any shape. One that this machine's memory cannot hold is refused before it is touched.
void requireFits(DType dtype, const Shape& shape) {
    static const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
    double bytes = bitsPerElement(dtype) / 8.0;
    for (std::int64_t dimension : shape) {
        if (dimension < 0) throw ModelError(fmt::format("an output would have shape {}", toString(shape)));
        bytes *= static_cast<double>(std::max<std::int64_t>(dimension, 1));
    }
    if (bytes > memory) throw ModelError(fmt::format("an output of shape {} does not fit into memory", toString(shape)));
}

}  // namespace

const Datum& OpContext::datum(std::size_t i) const {
    if (!has(i)) throw ModelError(fmt::format("input {} is required and left out", i));
    return *inputs_[i];
}

const Tensor& OpContext::input(std::size_t i) const {
    const Datum& value = datum(i);
    if (!value.isTensor()) throw ModelError(fmt::format("input {} has to be a tensor", i));
    return value.tensor;
}

const Sequence& OpContext::sequence(std::size_t i) const {
    const Datum& value = datum(i);
    if (!value.sequence) throw ModelError(fmt::format("input {} has to be a sequence", i));
    return *value.sequence;
}

std::byte* OpContext::outputBytes(std::size_t i, DType dtype, Shape shape) {
    TCOMPRESS_CHECK(i < outputs_.size(), "output out of range");
    std::byte* elements = nullptr;
    outputs_[i] = temporary(dtype, std::move(shape), &elements);
    return elements;
}

std::byte* OpContext::outputInPlace(std::size_t i, DType dtype, Shape shape) {
    for (std::size_t k = 0; k < dying_.size() && k < inputs_.size(); ++k) {
        const Tensor* candidate = has(k) ? &inputs_[k]->tensor : nullptr;
        if (!dying_[k] || !candidate || candidate->dtype() != dtype || candidate->shape() != shape) continue;
        if (candidate->storage().use_count() != 1 || candidate->size() == 0) continue;
        outputs_[i] = *candidate;
        // The only owner is this input, whose value is dead after the node: nobody sees the bytes change.
        return const_cast<std::byte*>(candidate->storage().get());
    }
    return outputBytes(i, dtype, std::move(shape));
}

void OpContext::setOutput(std::size_t i, Datum value) {
    TCOMPRESS_CHECK(i < outputs_.size(), "output out of range");
    outputs_[i] = std::move(value);
}

Tensor OpContext::temporary(DType dtype, Shape shape, std::byte** elements) {
    requireFits(dtype, shape);
    std::shared_ptr<std::byte> bytes = allocator_->allocate(packedSizeBytes(dtype, elementCount(shape)));
    *elements = bytes.get();
    return Tensor::share(dtype, std::move(shape), std::move(bytes));
}

}  // namespace tcompress::exec
