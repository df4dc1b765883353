#include "lib/exec/ops/attention_support.h"

#include <cmath>

#include "kernels/transpose.h"

namespace tcompress::exec {

Heads headsOf(const Tensor& tensor, std::int64_t heads) {
    const Shape& s = tensor.shape();
    const float* data = tensor.data<float>().data();
    if (s.size() == 4) return {data, s[0], s[1], s[2], s[3], {s[1] * s[2] * s[3], s[2] * s[3], s[3]}};
    if (s.size() != 3 || heads <= 0 || s[2] % heads != 0) {
        throw ModelError(fmt::format("a tensor of shape {} does not hold {} heads", toString(s), heads));
    }
    return headsInside(data, s[0], s[1], s[2], 0, heads, s[2] / heads);
}

Heads headsInside(const float* data, std::int64_t batch, std::int64_t rows, std::int64_t width, std::int64_t offset,
                  std::int64_t count, std::int64_t size) {
    return {data + offset, batch, count, rows, size, {rows * width, size, width}};
}

float* cacheMemory(OpContext& context, std::size_t output, Shape shape, Tensor* owner) {
    std::byte* elements = nullptr;
    if (output < context.outputCount()) {
        elements = context.outputBytes(output, DType::float32, std::move(shape));
    } else {
        *owner = context.temporary(DType::float32, std::move(shape), &elements);
    }
    return reinterpret_cast<float*>(elements);
}

Heads joinPast(OpContext& context, std::size_t output, const Tensor* past, const Heads& fresh) {
    const std::int64_t pastRows = past ? past->shape().at(2) : 0;
    if (past && (past->shape()[0] != fresh.batch || past->shape()[1] != fresh.heads || past->shape().at(3) != fresh.size)) {
        throw ModelError(fmt::format("past of shape {} does not fit {} heads of {}", toString(past->shape()), fresh.heads, fresh.size));
    }
    const std::int64_t rows = pastRows + fresh.rows;
    Tensor owner;
    float* y = cacheMemory(context, output, {fresh.batch, fresh.heads, rows, fresh.size}, &owner);
    const std::vector<std::int64_t> target{fresh.heads * rows * fresh.size, rows * fresh.size, fresh.size, 1};
    const auto copy = [&](const float* from, std::int64_t count, const kernels::HeadStrides& s, float* to) {
        const Shape shape{fresh.batch, fresh.heads, count, fresh.size};
        const std::vector<std::int64_t> source{s.batch, s.head, s.row, 1};
        if (elementCount(shape) > 0) kernels::copyStrided(from, 4, shape, source, target, to);
    };
    if (past) {
        copy(past->data<float>().data(), pastRows,
             {fresh.heads * pastRows * fresh.size, pastRows * fresh.size, fresh.size}, y);
    }
    copy(fresh.data, fresh.rows, fresh.strides, y + pastRows * fresh.size);
    return {y, fresh.batch, fresh.heads, rows, fresh.size, {target[0], target[1], target[2]}, owner};
}

Mask maskOf(const Tensor& tensor, std::int64_t batch, std::int64_t heads, std::int64_t queries, std::int64_t keys) {
    Shape shape = tensor.shape();
    while (shape.size() < 4) shape.insert(shape.begin(), 1);
    const Shape full{batch, heads, queries, keys};
    std::vector<std::int64_t> strides = stridesOf(shape);
    for (std::size_t i = 0; i < 4; ++i) {
        if (shape.size() != 4 || (shape[i] != 1 && shape[i] != full[i])) {
            throw ModelError(fmt::format("a mask of shape {} does not broadcast to {}", toString(tensor.shape()), toString(full)));
        }
        if (shape[i] == 1) strides[i] = 0;
    }
    return {tensor, {strides[0], strides[1], strides[2]}, strides[3]};
}

Mask maskOfBatchElement(const Mask& mask, std::int64_t index) {
    const std::size_t offset = static_cast<std::size_t>(index * mask.strides.batch * (bitsPerElement(mask.tensor.dtype()) / 8));
    const auto rest = mask.tensor.size() - index * mask.strides.batch;
    const std::shared_ptr<const std::byte> bytes(mask.tensor.storage(), mask.tensor.bytes().data() + offset);
    return {Tensor::share(mask.tensor.dtype(), {rest}, bytes), mask.strides, mask.columnStride};
}

float scaleOf(const AttentionCall& call) {
    return call.scale != 0 ? call.scale : 1.0F / std::sqrt(static_cast<float>(call.q.size));
}

void requireFit(const AttentionCall& call) {
    if (call.k.size != call.q.size || call.k.rows != call.v.rows || call.k.heads != call.v.heads ||
        call.q.heads % std::max<std::int64_t>(1, call.k.heads) != 0 || (call.k.batch != call.q.batch && call.k.batch != 1) ||
        call.v.batch != call.k.batch) {
        throw ModelError(fmt::format("attention of {} query heads of {} with {} key heads of {} does not fit", call.q.heads,
                                     call.q.size, call.k.heads, call.k.size));
    }
}

void runAttention(const AttentionCall& call) {
    requireFit(call);
    kernels::Attention params;
    params.batch = call.q.batch;
    params.queryHeads = call.q.heads;
    params.keyValueHeads = call.k.heads;
    params.queryLength = call.q.rows;
    params.keyLength = call.k.rows;
    params.headSize = call.q.size;
    params.valueHeadSize = call.v.size;
    params.q = call.q.data;
    params.k = call.k.data;
    params.v = call.v.data;
    params.qStrides = call.q.strides;
    params.kStrides = call.k.strides;
    params.vStrides = call.v.strides;
    if (call.k.batch == 1) params.kStrides.batch = params.vStrides.batch = 0;
    params.out = call.out;
    params.outStrides = call.outStrides;
    params.scale = scaleOf(call);
    params.softcap = call.softcap;
    params.causality = call.causality;
    params.pastLength = call.pastLength;
    if (call.mask) {
        if (call.mask->tensor.dtype() == DType::boolean) {
            params.allowed = call.mask->tensor.data<bool>().data();
        } else {
            params.mask = call.mask->tensor.data<float>().data();
        }
        params.maskStrides = call.mask->strides;
        params.maskColumnStride = call.mask->columnStride;
    }
    params.keyLengths = call.keyLengths;
    kernels::attention(params);
}

kernels::HeadStrides rowMajorHeads(std::int64_t rows, std::int64_t heads, std::int64_t size) {
    return {rows * heads * size, size, heads * size};
}

void attentionOutput(OpContext& context, AttentionCall& call, std::int64_t inputRank) {
    const Heads& q = call.q;
    const std::int64_t size = call.v.size;
    if (inputRank == 4) {
        call.out = context.output<float>(0, {q.batch, q.heads, q.rows, size}).data();
        call.outStrides = {q.heads * q.rows * size, q.rows * size, size};
    } else {
        call.out = context.output<float>(0, {q.batch, q.rows, q.heads * size}).data();
        call.outStrides = rowMajorHeads(q.rows, q.heads, size);
    }
}

}  // namespace tcompress::exec
