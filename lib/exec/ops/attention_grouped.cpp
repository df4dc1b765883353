// com.microsoft GroupQueryAttention: causal attention with a cache of keys and values, as decoders are
// exported. What the attention kernel does not know is brought to it: batch elements of different lengths are
// calls of their own, a sliding window is a mask, and an attention sink (Xiao et al., 2023) is a key of zeros
// before the others whose value is zeros and whose mask is the sink's logit.

#include <algorithm>
#include <limits>

#include "kernels/transpose.h"
#include "lib/exec/ops/attention_contrib.h"
#include "lib/exec/ops/rotary.h"

namespace tcompress::exec {

namespace {

constexpr float kHidden = -std::numeric_limits<float>::infinity();

struct GroupedAttributes {
    explicit GroupedAttributes(const Attributes& given)
        : heads(given.integer("num_heads", 0)),
          keyHeads(given.integer("kv_num_heads", heads)),
          scale(given.real("scale", 0)),
          softcap(given.real("softcap", 0)),
          rotate(given.integer("do_rotary", 0) != 0),
          layout(given.integer("rotary_interleaved", 0) ? RotaryLayout::interleaved : RotaryLayout::halves),
          window(given.integer("local_window_size", -1)),
          smooth(given.integer("smooth_softmax", 0) > 0),
          scores(given.integer("qk_output", 0)),
          causality(given.integer("causal", 1) ? kernels::Causality::causal : kernels::Causality::full) {
        if (heads <= 0 || keyHeads <= 0 || heads % keyHeads != 0) {
            throw ModelError(fmt::format("{} query heads do not share {} key heads evenly", heads, keyHeads));
        }
        if (given.integer("sliding_window_cache", 0))
            throw KernelError("caches of the window's size are not supported");
    }
    std::int64_t heads, keyHeads;
    float scale, softcap;
    bool rotate;
    RotaryLayout layout;
    std::int64_t window;
    bool smooth;
    std::int64_t scores;
    kernels::Causality causality;
};

/// Which positions the new rows take, and how many rows of a batch element count.
struct Lengths {
    std::vector<std::int64_t> starts, ends;
    std::int64_t cacheRows = 0;

    bool same() const {
        return std::adjacent_find(starts.begin(), starts.end(), std::not_equal_to<>()) == starts.end() &&
               std::adjacent_find(ends.begin(), ends.end(), std::not_equal_to<>()) == ends.end();
    }
};

/// A prompt starts every element at 0 and may be padded behind its end; later steps append their rows at the
/// end.
Lengths lengthsOf(const OpContext& context, std::int64_t batch, std::int64_t rows, std::int64_t total) {
    const std::vector<std::int64_t> last = integers(context.input(5));
    const std::int64_t pastRows = context.has(3) ? context.input(3).shape().at(2) : 0;
    const bool prompt = rows == total;
    if (total < 1 || (!prompt && total > pastRows + rows)) {
        throw DataError(fmt::format("a total length of {} does not fit {} new rows and {} rows of past",
                                    total, rows, pastRows));
    }
    Lengths lengths;
    lengths.cacheRows = std::max(total, pastRows);
    if (static_cast<std::int64_t>(last.size()) != batch) {
        throw DataError(fmt::format("{} key lengths for a batch of {}", last.size(), batch));
    }
    for (std::int64_t index : last) {
        const std::int64_t end = index + 1;
        const std::int64_t start = prompt ? 0 : end - rows;
        if (end < 1 || end > total || start < 0 || start + rows > lengths.cacheRows ||
            (!prompt && start > pastRows)) {
            throw DataError(
                fmt::format("the key length {} does not fit {} new rows, {} rows of past and a total of {}",
                            end, rows, pastRows, total));
        }
        lengths.starts.push_back(start);
        lengths.ends.push_back(end);
    }
    return lengths;
}

std::vector<std::int64_t> rotaryPositions(const Tensor* given, const Lengths& lengths, std::int64_t rows,
                                          std::int64_t total) {
    const std::vector<std::int64_t> ids = given ? integers(*given) : std::vector<std::int64_t>{};
    const auto batch = static_cast<std::int64_t>(lengths.starts.size());
    if (given && (rows == total ? ids.empty() : static_cast<std::int64_t>(ids.size()) != batch * rows)) {
        throw DataError(fmt::format("position ids of shape {} for {} rows of {} batch elements",
                                    toString(given->shape()), rows, batch));
    }
    std::vector<std::int64_t> positions;
    for (std::int64_t i = 0; i < batch * rows; ++i) {
        // Of a prompt's ids only the first one counts.
        const std::int64_t first = given ? ids[0] : lengths.starts[static_cast<std::size_t>(i / rows)];
        positions.push_back(given && rows != total ? ids[static_cast<std::size_t>(i)] : first + i % rows);
    }
    return positions;
}

/// Output `output` = the rows of the past that count and the new ones behind them, zeros elsewhere.
Heads appendToCache(OpContext& context, std::size_t output, const Tensor* past, const Heads& fresh,
                    const Lengths& lengths) {
    const std::int64_t rows = lengths.cacheRows;
    const std::int64_t pastRows = past ? past->shape().at(2) : 0;
    const bool tooShort = std::any_of(lengths.starts.begin(), lengths.starts.end(),
                                      [&](std::int64_t s) { return s > pastRows; });
    if (past && (tooShort || past->shape() != Shape{fresh.batch, fresh.heads, pastRows, fresh.size})) {
        throw ModelError(fmt::format("past of shape {} does not fit {} heads of {}", toString(past->shape()),
                                     fresh.heads, fresh.size));
    }
    Tensor owner;
    float* cache = cacheMemory(context, output, {fresh.batch, fresh.heads, rows, fresh.size}, &owner);
    std::fill_n(cache, fresh.batch * fresh.heads * rows * fresh.size, 0.0F);
    parallelFor(fresh.batch * fresh.heads, [&](std::int64_t i) {
        const std::int64_t start = lengths.starts[static_cast<std::size_t>(i / fresh.heads)];
        float* y = cache + i * rows * fresh.size;
        if (past) std::copy_n(past->data<float>().data() + i * pastRows * fresh.size, start * fresh.size, y);
        const float* x =
            fresh.data + i / fresh.heads * fresh.strides.batch + i % fresh.heads * fresh.strides.head;
        for (std::int64_t row = 0; row < fresh.rows; ++row) {
            std::copy_n(x + row * fresh.strides.row, fresh.size, y + (start + row) * fresh.size);
        }
    });
    const std::int64_t head = rows * fresh.size;
    return {cache, fresh.batch, fresh.heads, rows, fresh.size, {fresh.heads * head, head, fresh.size}, owner};
}

/// A dense copy of the heads behind one row of zeros.
Heads behindZeros(OpContext& context, const Heads& heads, Tensor* owner) {
    std::byte* elements = nullptr;
    const std::int64_t rows = heads.rows + 1;
    *owner = context.temporary(DType::float32, {heads.batch, heads.heads, rows, heads.size}, &elements);
    auto* y = reinterpret_cast<float*>(elements);
    std::fill_n(y, owner->size(), 0.0F);
    const Shape shape{heads.batch, heads.heads, heads.rows, heads.size};
    const std::vector<std::int64_t> from{heads.strides.batch, heads.strides.head, heads.strides.row, 1};
    const std::vector<std::int64_t> to{heads.heads * rows * heads.size, rows * heads.size, heads.size, 1};
    if (elementCount(shape) > 0) kernels::copyStrided(heads.data, 4, shape, from, to, y + heads.size);
    return {y, heads.batch, heads.heads, rows, heads.size, {to[0], to[1], to[2]}};
}

/// The inputs that shape the scores.
struct ScoreInputs {
    const Tensor* bias = nullptr;   ///< [batch or 1, heads or 1, rows, total]
    const Tensor* sinks = nullptr;  ///< a logit a head
};

/// Window, bias and sinks of `count` batch elements from `first` on as one additive mask, its column for the
/// sink first.
std::optional<Mask> combinedMask(const GroupedAttributes& attributes, const ScoreInputs& inputs,
                                 const AttentionCall& call, std::int64_t first) {
    const bool sink = attributes.smooth || inputs.sinks;
    if (!sink && !inputs.bias && attributes.window <= 0) return std::nullopt;
    if (inputs.sinks && inputs.sinks->size() != attributes.heads) {
        throw ModelError(
            fmt::format("{} attention sinks for {} heads", inputs.sinks->size(), attributes.heads));
    }
    const std::int64_t rows = call.q.rows;
    const std::int64_t keys = call.k.rows;
    std::optional<Mask> bias;
    if (inputs.bias) {
        const Shape& s = inputs.bias->shape();
        if (s.size() != 4 || (s[0] != 1 && s[0] < first + call.q.batch) ||
            (s[1] != 1 && s[1] != attributes.heads) || s[2] != rows || s[3] < keys) {
            throw ModelError(
                fmt::format("an attention bias of shape {} does not fit {} heads, {} queries and {} keys",
                            toString(s), attributes.heads, rows, keys));
        }
        const std::vector<std::int64_t> strides = stridesOf(s);
        bias = Mask{*inputs.bias, {s[0] == 1 ? 0 : strides[0], s[1] == 1 ? 0 : strides[1], strides[2]}, 1};
    }
    const Shape shape{bias && bias->strides.batch != 0 ? call.q.batch : 1,
                      (bias && bias->strides.head != 0) || inputs.sinks ? attributes.heads : 1, rows,
                      keys + (sink ? 1 : 0)};
    Tensor mask(DType::float32, shape);
    float* y = mask.mutableData<float>().data();
    for (std::int64_t i = 0; i < shape[0] * shape[1] * rows; ++i) {
        const std::int64_t b = i / rows / shape[1] + first;
        const std::int64_t head = i / rows % shape[1];
        const std::int64_t query = i % rows;
        if (sink) *y++ = inputs.sinks ? inputs.sinks->data<float>()[static_cast<std::size_t>(head)] : 0.0F;
        const float* added = bias ? bias->tensor.data<float>().data() + b * bias->strides.batch +
                                        head * bias->strides.head + query * bias->strides.row
                                  : nullptr;
        const std::int64_t firstSeen =
            attributes.window > 0 ? query + call.pastLength + 1 - attributes.window : 0;
        for (std::int64_t key = 0; key < keys; ++key)
            *y++ = key < firstSeen ? kHidden : (added ? added[key] : 0.0F);
    }
    return maskOf(mask, call.q.batch, attributes.heads, rows, shape[3]);
}

/// `count` batch elements from `first` on, all of the same length.
Heads elements(Heads heads, std::int64_t first, std::int64_t count, std::int64_t rows) {
    heads.data += first * heads.strides.batch;
    heads.batch = count;
    heads.rows = rows;
    return heads;
}

/// Inputs query (or Q, K, V side by side), [key], [value], [past key], [past value], index of the last key of
/// each batch element, total length, [cos table], [sin table], [position ids], [attention bias], [head
/// sinks]; outputs y, present key, present value, [scores].
class GroupedAttention {
  public:
    GroupedAttention(OpContext& context, const GroupedAttributes& attributes)
        : context_(context), attributes_(attributes), total_(integerScalar(context.input(6))) {}

    void run() {
        const Tensor& query = context_.input(0);
        if (query.rank() != 3)
            throw ModelError(
                fmt::format("query of shape {} is not [batch, rows, columns]", toString(query.shape())));
        AttentionCall whole;
        whole.scale = attributes_.scale;
        whole.softcap = attributes_.softcap;
        whole.causality = attributes_.causality;
        project(query, whole);
        const Lengths lengths = lengthsOf(context_, whole.q.batch, whole.q.rows, total_);
        Tensor rotatedQuery, rotatedKey;
        if (attributes_.rotate) {
            const auto positions = rotaryPositions(context_.optionalInput(9), lengths, whole.q.rows, total_);
            const auto turned = [&](const Heads& heads, Tensor* owner) {
                const std::int64_t dimension = context_.input(7).shape().back() * 2;
                return rotateHeads(context_, heads, context_.input(7), context_.input(8), positions,
                                   attributes_.layout, dimension, owner);
            };
            whole.q = turned(whole.q, &rotatedQuery);
            whole.k = turned(whole.k, &rotatedKey);
        }
        whole.k = appendToCache(context_, 1, context_.optionalInput(3), whole.k, lengths);
        whole.v = appendToCache(context_, 2, context_.optionalInput(4), whole.v, lengths);
        attentionOutput(context_, whole, 3);
        const std::int64_t batch = whole.q.batch;
        if (context_.wants(3)) {
            const auto scores = context_.output<float>(3, {batch, whole.q.heads, whole.q.rows, total_});
            std::fill(scores.begin(), scores.end(), 0.0F);
            scores_ = scores.data();
        }
        const std::int64_t step = lengths.same() ? batch : 1;
        for (std::int64_t b = 0; b < batch; b += step) attend(whole, b, step, lengths);
    }

  private:
    void project(const Tensor& query, AttentionCall& call) const {
        const std::int64_t heads = attributes_.heads;
        const std::int64_t keyHeads = attributes_.keyHeads;
        if (context_.has(1)) {
            call.q = headsOf(query, heads);
            call.k = headsOf(context_.input(1), keyHeads);
            call.v = headsOf(context_.input(2), keyHeads);
            if (call.k.batch != call.q.batch || call.k.rows != call.q.rows || call.k.size != call.q.size ||
                call.v.rows != call.q.rows) {
                throw ModelError(fmt::format("query {} and key {} do not fit", toString(query.shape()),
                                             toString(context_.input(1).shape())));
            }
            return;
        }
        const std::int64_t width = query.shape()[2];
        const std::int64_t size = width / (heads + 2 * keyHeads);
        const auto part = [&](std::int64_t offset, std::int64_t count) {
            return headsInside(query.data<float>().data(), query.shape()[0], query.shape()[1], width,
                               offset * size, count, size);
        };
        call.q = part(0, heads);
        call.k = part(heads, keyHeads);
        call.v = part(heads + keyHeads, keyHeads);
    }

    void attend(const AttentionCall& whole, std::int64_t first, std::int64_t count, const Lengths& lengths) {
        AttentionCall call = whole;
        const std::int64_t keys = lengths.ends[static_cast<std::size_t>(first)];
        call.q = elements(whole.q, first, count, whole.q.rows);
        call.k = elements(whole.k, first, count, keys);
        call.v = elements(whole.v, first, count, keys);
        call.out = whole.out + first * whole.outStrides.batch;
        call.pastLength = lengths.starts[static_cast<std::size_t>(first)];
        const ScoreInputs inputs{context_.optionalInput(10), context_.optionalInput(11)};
        const std::optional<Mask> mask = combinedMask(attributes_, inputs, call, first);
        call.mask = mask ? &*mask : nullptr;
        Tensor sinkKey, sinkValue;
        if (attributes_.smooth || inputs.sinks) {
            call.k = behindZeros(context_, call.k, &sinkKey);
            call.v = behindZeros(context_, call.v, &sinkValue);
            ++call.pastLength;
        }
        runAttention(call);
        if (!scores_) return;
        const bool sink = call.k.rows != keys;
        float* rows = scores_ + first * whole.q.heads * whole.q.rows * total_;
        attentionScores(call, {rows, total_, sink ? 1 : 0, 0.0F},
                        attributes_.scores == 1 ? ScoreStage::beforeSoftmax : ScoreStage::afterSoftmax);
    }

    OpContext& context_;
    const GroupedAttributes& attributes_;
    const std::int64_t total_;
    float* scores_ = nullptr;
};

}  // namespace

Runner makeGroupQueryAttention(const NodeInfo& info) {
    if (info.hasInput(12) || info.hasInput(13)) throw KernelError("a quantized cache is not supported");
    if (info.hasInput(14) || info.hasInput(15))
        throw KernelError("normalized heads (q_norm_weight) are not supported");
    const GroupedAttributes attributes(info.attributes);
    return [attributes](OpContext& context) { GroupedAttention(context, attributes).run(); };
}

}  // namespace tcompress::exec
