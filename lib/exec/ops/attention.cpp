// ONNX Attention and RotaryEmbedding; com.microsoft's forms stand in attention_contrib.cpp and attention_grouped.cpp.

#include <cmath>
#include <limits>

#include "lib/exec/ops/attention_support.h"
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
    requireFit(call);  // of one element alone a batch that does not fit would not be seen
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
            for (const std::int64_t length : lengths) {
                if (length < 0 || length > call.k.rows) throw DataError(fmt::format("{} keys of {} are asked for", length, call.k.rows));
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

constexpr FloatSupport kSingle = FloatSupport::float32;

const OperatorRow kRows[] = {
    {"", "Attention", 23, makeAttention, kFloatTypes, kSingle, acceptsAttention},
    {"", "RotaryEmbedding", 23, makeRotaryEmbedding, kFloatTypes, kSingle},
};

}  // namespace

std::span<const OperatorRow> attentionOperators() { return kRows; }

}  // namespace tcompress::exec
