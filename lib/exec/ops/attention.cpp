// Attention as one operator: ONNX Attention, and com.microsoft Attention, MultiHeadAttention and GroupQueryAttention.

#include <cmath>
#include <limits>

#include "lib/exec/ops/attention_support.h"
#include "lib/exec/ops/matmul_support.h"
#include "lib/exec/ops/rotary.h"

namespace tcompress::exec {

namespace {

/// The scores as an output and sliding windows are left to the operator's function body.
bool acceptsAttention(const NodeInfo& info) {
    return !info.hasOutput(3) && info.attributes.integer("left_window_size", -1) < 0 &&
           info.attributes.integer("right_window_size", -1) < 0;
}

/// A mask may end before the keys do (opset 24): the keys beyond it are not seen.
Tensor paddedMask(OpContext& context, const Tensor& mask, std::int64_t keys) {
    const std::int64_t given = mask.rank() > 0 ? mask.shape().back() : 1;
    if (given == 1 || given >= keys) return mask;
    Shape shape = mask.shape();
    shape.back() = keys;
    std::byte* elements = nullptr;
    Tensor padded = context.temporary(mask.dtype(), shape, &elements);
    const auto pad = [&](auto hidden) {
        using T = decltype(hidden);
        auto* y = reinterpret_cast<T*>(elements);
        const auto source = mask.data<T>();
        for (std::int64_t i = 0; i < padded.size(); ++i) {
            const std::int64_t column = i % keys;
            y[i] = column < given ? source[static_cast<std::size_t>(i / keys * given + column)] : hidden;
        }
    };
    if (mask.dtype() == DType::boolean) {
        pad(false);
    } else {
        pad(-std::numeric_limits<float>::infinity());
    }
    return padded;
}

/// Causal attention over a cache that each batch element has filled up to another length: its queries are its last keys.
void runRaggedAttention(const AttentionCall& call, const std::vector<std::int64_t>& lengths) {
    for (std::int64_t b = 0; b < call.q.batch; ++b) {
        AttentionCall one = call;
        for (Heads* heads : {&one.q, &one.k, &one.v}) {
            heads->data += (heads->batch == 1 ? 0 : b) * heads->strides.batch;
            heads->batch = 1;
        }
        one.out += b * call.outStrides.batch;
        one.keyLengths = &lengths.at(static_cast<std::size_t>(b));
        one.pastLength = *one.keyLengths - call.q.rows;
        std::optional<Mask> mask;
        if (call.mask) one.mask = &mask.emplace(maskOfBatchElement(*call.mask, b));
        runAttention(one);
    }
}

/// Inputs Q, K, V, [mask], [past key], [past value], [key lengths]; outputs Y, [present key], [present value].
Runner makeAttention(const NodeInfo& info) {
    const std::int64_t queryHeads = info.attributes.integer("q_num_heads", 0);
    const std::int64_t keyHeads = info.attributes.integer("kv_num_heads", 0);
    const bool causal = info.attributes.integer("is_causal", 0) != 0;
    const float scale = info.attributes.real("scale", 0);
    const float softcap = info.attributes.real("softcap", 0);
    return [=](OpContext& context) {
        const Tensor& query = context.input(0);
        AttentionCall call;
        call.q = headsOf(query, queryHeads);
        call.k = headsOf(context.input(1), keyHeads);
        call.v = headsOf(context.input(2), keyHeads);
        call.scale = scale;
        call.softcap = softcap;
        const Tensor* pastKey = context.optionalInput(4);
        call.pastLength = pastKey ? pastKey->shape().at(2) : 0;
        if (pastKey || context.wants(1)) call.k = joinPast(context, 1, pastKey, call.k);
        if (pastKey || context.wants(2)) call.v = joinPast(context, 2, context.optionalInput(5), call.v);
        call.causality = causal ? kernels::Causality::causal : kernels::Causality::full;
        std::optional<Mask> mask;
        if (const Tensor* given = context.optionalInput(3)) {
            mask = maskOf(paddedMask(context, *given, call.k.rows), call.q.batch, call.q.heads, call.q.rows, call.k.rows);
            call.mask = &*mask;
        }
        attentionOutput(context, call, query.rank());
        std::vector<std::int64_t> lengths;
        if (const Tensor* given = context.optionalInput(6)) {
            lengths = integers(*given);
            if (given->shape() != Shape{call.q.batch}) {
                throw ModelError(fmt::format("key lengths of shape {} for a batch of {}", toString(given->shape()), call.q.batch));
            }
            call.keyLengths = lengths.data();
        }
        if (causal && call.keyLengths) {
            runRaggedAttention(call, lengths);
        } else {
            runAttention(call);
        }
    };
}

/// The additive mask of com.microsoft Attention from its mask_index input: [B, T], [B, S, T], [B, 1, S, T] of 0 and 1, or
/// key lengths [B]; hidden positions get `filter`.
Tensor filterMask(const Tensor& index, std::int64_t batch, std::int64_t queries, std::int64_t keys, float filter) {
    const std::vector<std::int64_t> values = integers(index);
    const Shape& s = index.shape();
    Shape shape{batch, 1, 1, keys};
    if (s.size() == 1 && s[0] == batch) {
        Tensor mask(DType::float32, shape);
        const auto y = mask.mutableData<float>();
        for (std::size_t i = 0; i < y.size(); ++i) {
            const auto b = static_cast<std::int64_t>(i) / keys;
            y[i] = static_cast<std::int64_t>(i) % keys < values[static_cast<std::size_t>(b)] ? 0.0F : filter;
        }
        return mask;
    }
    if (s.size() == 3 && s == Shape{batch, queries, keys}) {
        shape = {batch, 1, queries, keys};
    } else if (!(s == Shape{batch, keys})) {
        throw KernelError(fmt::format("a mask of shape {} is not supported (batch {}, {} queries, {} keys)", toString(s), batch,
                                      queries, keys));
    }
    Tensor mask(DType::float32, shape);
    const auto y = mask.mutableData<float>();
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = values[i] > 0 ? 0.0F : filter;
    return mask;
}

/// mask + bias, broadcast.
Tensor addMasks(OpContext& context, const Tensor& a, const Tensor& b) {
    const BroadcastPlan plan = broadcastPlan({&a, &b});
    std::byte* elements = nullptr;
    Tensor result = context.temporary(DType::float32, plan.shape, &elements);
    kernels::binary<float>(kernels::BinaryOp::add, plan.loop, a.data<float>().data(), b.data<float>().data(),
                           reinterpret_cast<float*>(elements));
    return result;
}

/// Gathers the mask inputs of a com.microsoft operator; null when there is none.
std::optional<Mask> contribMask(OpContext& context, const Tensor* index, const Tensor* bias, const AttentionCall& call,
                                float filter) {
    std::optional<Tensor> sum;
    if (index) sum = filterMask(*index, call.q.batch, call.q.rows, call.k.rows, filter);
    if (bias) sum = sum ? addMasks(context, *sum, *bias) : *bias;
    if (!sum) return std::nullopt;
    return maskOf(*sum, call.q.batch, call.q.heads, call.q.rows, call.k.rows);
}

/// com.microsoft Attention: x · W + b gives Q, K, V side by side. Inputs x, W, b, [mask_index], [past], [attention bias].
Runner makeContribAttention(const NodeInfo& info) {
    const std::int64_t heads = info.attributes.integer("num_heads", 0);
    const bool causal = info.attributes.integer("unidirectional", 0) != 0;
    const float scale = info.attributes.real("scale", 0);
    const float filter = info.attributes.real("mask_filter_value", -10000.0F);
    const auto sizes = info.attributes.integers("qkv_hidden_sizes");
    if (info.attributes.integer("do_rotary", 0)) throw KernelError("do_rotary is not supported");
    if (info.attributes.integer("past_present_share_buffer", 0)) throw KernelError("a shared past buffer is not supported");
    kernels::PackedWeightsPtr packed;
    if (info.constant(1)) {
        packed = packMatrix(*info.constant(1), Transposed::no);
        info.markPacked(1);
    }
    return [=](OpContext& context) {
        const Tensor& x = context.input(0);
        const kernels::PackedWeightsPtr weights = packed ? packed : packMatrix(context.input(1), Transposed::no);
        const std::int64_t width = kernels::columns(*weights);
        const std::int64_t qWidth = sizes ? sizes->at(0) : width / 3;
        const std::int64_t kWidth = sizes ? sizes->at(1) : width / 3;
        const std::int64_t vWidth = width - qWidth - kWidth;
        const std::int64_t batch = x.shape().at(0);
        const std::int64_t rows = x.shape().at(1);
        runLinear(context, {&x, weights.get(), context.optionalInput(2), nullptr, 1.0F, kernels::Activation::none});
        const Tensor projected = context.outputTensor(0);
        const float* data = projected.data<float>().data();
        AttentionCall call;
        call.q = headsInside(data, batch, rows, width, 0, heads, qWidth / heads);
        call.k = headsInside(data, batch, rows, width, qWidth, heads, kWidth / heads);
        call.v = headsInside(data, batch, rows, width, qWidth + kWidth, heads, vWidth / heads);
        call.scale = scale;
        call.causality = causal ? kernels::Causality::causal : kernels::Causality::full;
        const Tensor* past = context.optionalInput(4);
        Tensor present;
        if (past || context.wants(1)) {
            // past and present are [2, batch, heads, length, size]: keys, then values.
            const std::int64_t pastRows = past ? past->shape().at(3) : 0;
            const auto half = [&](std::int64_t index) {
                const Shape shape{batch, heads, pastRows, kWidth / heads};
                const std::byte* bytes = past->bytes().data() + index * elementCount(shape) * 4;
                return Tensor::share(DType::float32, shape, std::shared_ptr<const std::byte>(past->storage(), bytes));
            };
            const Tensor pastKey = past ? half(0) : Tensor{};
            const Tensor pastValue = past ? half(1) : Tensor{};
            const std::int64_t total = pastRows + rows;
            std::byte* target = nullptr;
            present = context.temporary(DType::float32, {2, batch, heads, total, kWidth / heads}, &target);
            const std::size_t bytes = present.sizeBytes() / 2;
            call.k = joinPast(context, 0, past ? &pastKey : nullptr, call.k);
            std::memcpy(target, context.outputTensor(0).bytes().data(), bytes);
            call.v = joinPast(context, 0, past ? &pastValue : nullptr, call.v);
            std::memcpy(target + bytes, context.outputTensor(0).bytes().data(), bytes);
            call.k.data = reinterpret_cast<const float*>(target);
            call.v.data = reinterpret_cast<const float*>(target + bytes);
            call.pastLength = pastRows;
        }
        const std::optional<Mask> mask =
            contribMask(context, context.optionalInput(3), context.optionalInput(5), call, filter);
        call.mask = mask ? &*mask : nullptr;
        attentionOutput(context, call, 3);
        runAttention(call);
        if (context.wants(1)) context.setOutput(1, present);
    };
}

/// Q, K or V of MultiHeadAttention with its part of the bias added.
Tensor withBias(OpContext& context, const Tensor& x, const Tensor* bias, std::int64_t offset) {
    if (!bias || x.rank() != 3) return x;
    const std::byte* part = bias->bytes().data() + offset * 4;
    const Tensor slice =
        Tensor::share(DType::float32, {x.shape()[2]}, std::shared_ptr<const std::byte>(bias->storage(), part));
    return addMasks(context, x, slice);
}

/// com.microsoft MultiHeadAttention. Inputs query, key, value, [bias], [key padding mask], [attention bias], [past key],
/// [past value].
Runner makeMultiHeadAttention(const NodeInfo& info) {
    const std::int64_t heads = info.attributes.integer("num_heads", 0);
    const bool causal = info.attributes.integer("unidirectional", 0) != 0;
    const float scale = info.attributes.real("scale", 0);
    const float filter = info.attributes.real("mask_filter_value", -10000.0F);
    if (!info.hasInput(1) || !info.hasInput(2)) throw KernelError("packed query, key and value are not supported");
    return [=](OpContext& context) {
        const Tensor* bias = context.optionalInput(3);
        const std::int64_t hidden = context.input(0).shape().at(2);
        const Tensor query = withBias(context, context.input(0), bias, 0);
        const Tensor key = withBias(context, context.input(1), bias, hidden);
        const Tensor value = withBias(context, context.input(2), bias, 2 * hidden);
        AttentionCall call;
        call.q = headsOf(query, heads);
        call.k = headsOf(key, heads);
        call.v = headsOf(value, heads);
        call.scale = scale;
        call.causality = causal ? kernels::Causality::causal : kernels::Causality::full;
        const Tensor* pastKey = context.optionalInput(6);
        if (pastKey) call.pastLength = pastKey->shape().at(2);
        if (pastKey || context.wants(1)) call.k = joinPast(context, 1, pastKey, call.k);
        if (pastKey || context.wants(2)) call.v = joinPast(context, 2, context.optionalInput(7), call.v);
        const std::optional<Mask> mask =
            contribMask(context, context.optionalInput(4), context.optionalInput(5), call, filter);
        call.mask = mask ? &*mask : nullptr;
        attentionOutput(context, call, 3);
        runAttention(call);
    };
}

/// com.microsoft GroupQueryAttention, causal, with a key/value cache. Inputs query (or Q, K, V side by side), [key], [value],
/// [past key], [past value], last key index of each batch element, total length, [cos table], [sin table].
Runner makeGroupQueryAttention(const NodeInfo& info) {
    const std::int64_t heads = info.attributes.integer("num_heads", 0);
    const std::int64_t keyHeads = info.attributes.integer("kv_num_heads", heads);
    const float scale = info.attributes.real("scale", 0);
    const float softcap = info.attributes.real("softcap", 0);
    const bool rotate = info.attributes.integer("do_rotary", 0) != 0;
    const RotaryLayout layout =
        info.attributes.integer("rotary_interleaved", 0) ? RotaryLayout::interleaved : RotaryLayout::halves;
    if (info.attributes.integer("local_window_size", -1) > 0) throw KernelError("sliding windows are not supported");
    if (info.attributes.integer("smooth_softmax", 0) > 0) throw KernelError("smooth_softmax is not supported");
    return [=](OpContext& context) {
        const Tensor& query = context.input(0);
        const std::int64_t batch = query.shape().at(0);
        const std::int64_t rows = query.shape().at(1);
        AttentionCall call;
        if (context.has(1)) {
            call.q = headsOf(query, heads);
            call.k = headsOf(context.input(1), keyHeads);
            call.v = headsOf(context.input(2), keyHeads);
        } else {
            const std::int64_t width = query.shape().at(2);
            const std::int64_t size = width / (heads + 2 * keyHeads);
            const float* data = query.data<float>().data();
            call.q = headsInside(data, batch, rows, width, 0, heads, size);
            call.k = headsInside(data, batch, rows, width, heads * size, keyHeads, size);
            call.v = headsInside(data, batch, rows, width, (heads + keyHeads) * size, keyHeads, size);
        }
        const std::vector<std::int64_t> last = integers(context.input(5));
        const std::int64_t total = integerScalar(context.input(6));
        const Tensor* pastKey = context.optionalInput(3);
        const std::int64_t buffer = pastKey ? pastKey->shape().at(2) : 0;
        const bool ragged = std::any_of(last.begin(), last.end(), [&](std::int64_t l) { return l + 1 != total; });
        if (ragged || (buffer != 0 && buffer + rows != total)) {
            throw KernelError("batch elements of different lengths and shared cache buffers are not supported");
        }
        const std::int64_t past = total - rows;
        Tensor rotatedQuery;
        Tensor rotatedKey;
        if (rotate) {
            std::vector<std::int64_t> positions;
            for (std::int64_t i = 0; i < batch * rows; ++i) positions.push_back(past + i % rows);
            call.q = rotateHeads(context, call.q, context.input(7), context.input(8), positions, layout, 0, &rotatedQuery);
            call.k = rotateHeads(context, call.k, context.input(7), context.input(8), positions, layout, 0, &rotatedKey);
        }
        call.k = joinPast(context, 1, pastKey, call.k);
        call.v = joinPast(context, 2, context.optionalInput(4), call.v);
        call.scale = scale;
        call.softcap = softcap;
        call.causality = kernels::Causality::causal;
        call.pastLength = past;
        attentionOutput(context, call, 3);
        runAttention(call);
    };
}

constexpr FloatSupport kSingle = FloatSupport::float32;

const OperatorRow kRows[] = {
    {"", "Attention", 23, makeAttention, kFloatTypes, kSingle, acceptsAttention},
    {"", "RotaryEmbedding", 23, makeRotaryEmbedding, kFloatTypes, kSingle},
    {kContribDomain, "Attention", 1, makeContribAttention, kFloatTypes, kSingle},
    {kContribDomain, "MultiHeadAttention", 1, makeMultiHeadAttention, kFloatTypes, kSingle},
    {kContribDomain, "GroupQueryAttention", 1, makeGroupQueryAttention, kFloatTypes, kSingle},
    {kContribDomain, "RotaryEmbedding", 1, makeContribRotaryEmbedding, kFloatTypes, kSingle},
};

}  // namespace

std::span<const OperatorRow> attentionOperators() { return kRows; }

}  // namespace tcompress::exec
