// com.microsoft Attention and MultiHeadAttention: BERT's masks, packed projections, biases, a cache of keys
// and values.

#include "lib/exec/ops/attention_contrib.h"

#include <array>
#include <limits>
#include <tuple>

#include "lib/exec/ops/matmul_support.h"
#include "lib/exec/ops/rotary.h"

namespace tcompress::exec {

namespace {

/// Which keys a query may see, from the mask_index input of com.microsoft operators: real positions [B, T] or
/// [B, S, T] of 1, numbers of real keys [B], or ends and then starts of the real keys [2 · B]. The result,
/// [B, 1, 1 or S, T], is added to the scores: `filter` for hidden positions.
Tensor filterMask(const Tensor& index, std::int64_t batch, std::int64_t queries, std::int64_t keys,
                  float filter) {
    const std::vector<std::int64_t> values = integers(index);
    const Shape& s = index.shape();
    const bool ranges = s == Shape{batch} || s == Shape{2 * batch};
    const bool perQuery = s == Shape{batch, queries, keys};
    if (!ranges && !perQuery && s != Shape{batch, keys}) {
        throw KernelError(fmt::format("a mask of shape {} is not supported (batch {}, {} queries, {} keys)",
                                      toString(s), batch, queries, keys));
    }
    Tensor mask(DType::float32, {batch, 1, perQuery ? queries : 1, keys});
    const auto y = mask.mutableData<float>();
    for (std::size_t i = 0; i < y.size(); ++i) {
        bool seen = false;
        if (ranges) {
            const auto key = static_cast<std::int64_t>(i) % keys;
            const std::size_t row = i / static_cast<std::size_t>(keys);
            const std::size_t start = row + static_cast<std::size_t>(batch);
            seen = key < values[row] && (start >= values.size() || key >= values[start]);
        } else {
            seen = values[i] > 0;
        }
        y[i] = seen ? 0.0F : filter;
    }
    return mask;
}

/// a + b, broadcast.
Tensor sum(OpContext& context, const Tensor& a, const Tensor& b) {
    const BroadcastPlan plan = broadcastPlan({&a, &b});
    std::byte* elements = nullptr;
    Tensor result = context.temporary(DType::float32, plan.shape, &elements);
    kernels::binary<float>(kernels::BinaryOp::add, plan.loop, a.data<float>().data(), b.data<float>().data(),
                           reinterpret_cast<float*>(elements));
    return result;
}

/// The mask_index and the attention bias inputs as one mask; nothing when there is neither.
std::optional<Mask> contribMask(OpContext& context, const Tensor* index, const Tensor* bias,
                                const AttentionCall& call, float filter) {
    std::optional<Tensor> mask;
    if (index) mask = filterMask(*index, call.q.batch, call.q.rows, call.k.rows, filter);
    if (bias) mask = mask ? sum(context, *mask, *bias) : *bias;
    if (!mask) return std::nullopt;
    return maskOf(*mask, call.q.batch, call.q.heads, call.q.rows, call.k.rows);
}

/// Attributes that both operators have.
struct ContribAttributes {
    explicit ContribAttributes(const Attributes& attributes)
        : heads(attributes.integer("num_heads", 0)),
          causality(attributes.integer("unidirectional", 0) ? kernels::Causality::causal
                                                            : kernels::Causality::full),
          scale(attributes.real("scale", 0)),
          filter(attributes.real("mask_filter_value", -10000.0F)) {
        if (heads <= 0) throw ModelError(fmt::format("num_heads is {}", heads));
    }
    std::int64_t heads;
    kernels::Causality causality;
    float scale;
    float filter;
};

/// x · W + b gives Q, K, V side by side. Inputs x, W, [b], [mask_index], [past], [attention bias]; outputs y,
/// [present]. past and present are [2, batch, heads, length, size]: keys, then values.
Runner makeContribAttention(const NodeInfo& info) {
    const ContribAttributes attributes(info.attributes);
    const auto sizes = info.attributes.integers("qkv_hidden_sizes");
    if (info.attributes.integer("do_rotary", 0)) throw KernelError("do_rotary is not supported");
    if (info.attributes.integer("past_present_share_buffer", 0))
        throw KernelError("a shared past buffer is not supported");
    kernels::PackedWeightsPtr packed;
    if (info.constant(1)) {
        packed = packMatrix(*info.constant(1), Transposed::no);
        info.markPacked(1);
    }
    return [=](OpContext& context) {
        const std::int64_t heads = attributes.heads;
        const Tensor& x = context.input(0);
        const kernels::PackedWeightsPtr weights =
            packed ? packed : packMatrix(context.input(1), Transposed::no);
        const std::int64_t width = kernels::columns(*weights);
        const std::int64_t qWidth = sizes ? sizes->at(0) : width / 3;
        const std::int64_t kWidth = sizes ? sizes->at(1) : width / 3;
        const std::int64_t vWidth = width - qWidth - kWidth;
        const std::int64_t batch = x.shape().at(0);
        const std::int64_t rows = x.shape().at(1);
        runLinear(context,
                  {&x, weights.get(), context.optionalInput(2), nullptr, 1.0F, kernels::Activation::none});
        const Tensor projected = context.outputTensor(0);
        const float* data = projected.data<float>().data();
        AttentionCall call;
        call.q = headsInside(data, batch, rows, width, 0, heads, qWidth / heads);
        call.k = headsInside(data, batch, rows, width, qWidth, heads, kWidth / heads);
        call.v = headsInside(data, batch, rows, width, qWidth + kWidth, heads, vWidth / heads);
        call.scale = attributes.scale;
        call.causality = attributes.causality;
        const Tensor* past = context.optionalInput(4);
        Tensor present;
        if (past || context.wants(1)) {
            const std::int64_t pastRows = past ? past->shape().at(3) : 0;
            const auto half = [&](std::int64_t index) {
                const Shape shape{batch, heads, pastRows, kWidth / heads};
                const std::byte* bytes = past->bytes().data() + index * elementCount(shape) * 4;
                return Tensor::share(DType::float32, shape,
                                     std::shared_ptr<const std::byte>(past->storage(), bytes));
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
            contribMask(context, context.optionalInput(3), context.optionalInput(5), call, attributes.filter);
        call.mask = mask ? &*mask : nullptr;
        attentionOutput(context, call, 3);
        runAttention(call);
        if (context.wants(1)) context.setOutput(1, present);
    };
}

/// Heads plus a bias of [heads · size], as a dense [batch, rows, heads, size] that `owner` keeps.
Heads withBias(OpContext& context, const Heads& heads, const float* bias, Tensor* owner) {
    std::byte* elements = nullptr;
    *owner = context.temporary(DType::float32, {heads.batch, heads.rows, heads.heads, heads.size}, &elements);
    Heads result = heads;
    result.data = reinterpret_cast<const float*>(elements);
    result.strides = rowMajorHeads(heads.rows, heads.heads, heads.size);
    parallelRanges(heads.batch * heads.rows, grainFor(heads.heads * heads.size),
                   [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t row = begin; row < end; ++row) {
                           const float* x = heads.data + row / heads.rows * heads.strides.batch +
                                            row % heads.rows * heads.strides.row;
                           float* y = reinterpret_cast<float*>(elements) + row * heads.heads * heads.size;
                           for (std::int64_t h = 0; h < heads.heads; ++h) {
                               for (std::int64_t i = 0; i < heads.size; ++i)
                                   y[h * heads.size + i] =
                                       x[h * heads.strides.head + i] + bias[h * heads.size + i];
                           }
                       }
                   });
    return result;
}

/// Part `index` of `parts` that lie between heads and elements: [batch, rows, heads, parts, size].
Heads packedPart(const Tensor& x, std::int64_t index) {
    const Shape& s = x.shape();
    return {x.data<float>().data() + index * s[4],
            s[0],
            s[2],
            s[1],
            s[4],
            {s[1] * s[2] * s[3] * s[4], s[3] * s[4], s[2] * s[3] * s[4]}};
}

/// Queries, keys and values of MultiHeadAttention from its first inputs, in the forms that its documentation
/// lists: three tensors [batch, rows, heads · size]; keys and values [batch, heads, rows, size]; keys and
/// values in one tensor; all in one.
std::array<Heads, 3> projections(const OpContext& context, std::int64_t heads) {
    const Tensor& query = context.input(0);
    const auto requireParts = [&](const Tensor& x, std::int64_t parts) {
        if (x.rank() != 5 || x.shape()[2] != heads || x.shape()[3] != parts) {
            throw ModelError(fmt::format("packed projections of shape {} do not hold {} parts of {} heads",
                                         toString(x.shape()), parts, heads));
        }
    };
    if (!context.has(1)) {
        requireParts(query, 3);
        return {packedPart(query, 0), packedPart(query, 1), packedPart(query, 2)};
    }
    const Heads q = headsOf(query, heads);
    const Tensor& key = context.input(1);
    if (context.has(2)) return {q, headsOf(key, heads), headsOf(context.input(2), heads)};
    requireParts(key, 2);
    return {q, packedPart(key, 0), packedPart(key, 1)};
}

/// Inputs query, [key], [value], [bias], [key padding mask], [attention bias], [past key], [past value];
/// outputs y, [present key], [present value], [scores before the softmax].
Runner makeMultiHeadAttention(const NodeInfo& info) {
    const ContribAttributes attributes(info.attributes);
    if (info.hasInput(8) || info.hasInput(9))
        throw KernelError("shared past buffers and beam indirection are not supported");
    return [=](OpContext& context) {
        AttentionCall call;
        std::array<Heads, 3> parts = projections(context, attributes.heads);
        std::array<Tensor, 3> biased;
        if (const Tensor* bias = context.optionalInput(3)) {
            const std::int64_t hidden = attributes.heads * parts[0].size;
            if (bias->size() != 2 * hidden + attributes.heads * parts[2].size) {
                throw ModelError(fmt::format("a bias of shape {} does not fit {} heads of {}",
                                             toString(bias->shape()), attributes.heads, parts[0].size));
            }
            for (std::size_t i = 0; i < 3; ++i) {
                // Keys and values that are in heads already come from another layer's cache, with their bias.
                if (i > 0 && context.has(i) && context.input(i).rank() == 4) continue;
                parts[i] =
                    withBias(context, parts[i],
                             bias->data<float>().data() + static_cast<std::int64_t>(i) * hidden, &biased[i]);
            }
        }
        std::tie(call.q, call.k, call.v) = std::tie(parts[0], parts[1], parts[2]);
        call.scale = attributes.scale;
        call.causality = attributes.causality;
        const Tensor* pastKey = context.optionalInput(6);
        if (pastKey) call.pastLength = pastKey->shape().at(2);
        if (pastKey || context.wants(1)) call.k = joinPast(context, 1, pastKey, call.k);
        if (pastKey || context.wants(2)) call.v = joinPast(context, 2, context.optionalInput(7), call.v);
        const std::optional<Mask> mask =
            contribMask(context, context.optionalInput(4), context.optionalInput(5), call, attributes.filter);
        call.mask = mask ? &*mask : nullptr;
        attentionOutput(context, call, 3);
        runAttention(call);
        if (context.wants(3)) {
            float* scores =
                context.output<float>(3, {call.q.batch, call.q.heads, call.q.rows, call.k.rows}).data();
            attentionScores(call, {scores, call.k.rows, 0, std::numeric_limits<float>::lowest()},
                            ScoreStage::beforeSoftmax);
        }
    };
}

constexpr FloatSupport kSingle = FloatSupport::float32;

const OperatorRow kRows[] = {
    {kContribDomain, "Attention", 1, makeContribAttention, kFloatTypes, kSingle},
    {kContribDomain, "MultiHeadAttention", 1, makeMultiHeadAttention, kFloatTypes, kSingle},
    {kContribDomain, "GroupQueryAttention", 1, makeGroupQueryAttention, kFloatTypes, kSingle},
    {kContribDomain, "RotaryEmbedding", 1, makeContribRotaryEmbedding, kFloatTypes, kSingle},
};

}  // namespace

std::span<const OperatorRow> contribAttentionOperators() { return kRows; }

}  // namespace tcompress::exec
