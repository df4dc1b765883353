// A task is one block of queries of one head. Scores of the block against a block of keys come from the panel
// kernel (keys transposed into panels), go through the running softmax, and multiply the values, which are
// read in place.

#include "kernels/native/attention_native.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/aligned_buffer.h"
#include "kernels/native/gemm_kernel.h"
#include "kernels/native/vector_math.h"
#include "kernels/packed_weights.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kQueryBlock = 96;  // a multiple of 12, the rows of the AVX-512 panel kernel
constexpr std::int64_t kKeyBlock = 512;
/// With fewer queries than this, dot products with the keys as they lie are cheaper than transposing the
/// keys.
constexpr std::int64_t kFewQueries = 4;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Keys;
struct Values;
struct Scores;
struct Sums;
struct Outputs;

/// Of one query over all key blocks so far.
struct RunningSoftmax {
    float max = -kInfinity;
    float sum = 0.0F;
};

/// Scores of a block of queries against a block of keys, row after row.
struct ScoreBlock {
    float* scores = nullptr;
    std::int64_t rows = 0, count = 0;
    /// How many of the first keys row 0 may see; each later row sees `visibleStep` more.
    std::int64_t visible = 0, visibleStep = 0;
    /// What is left to do to a raw score, in this order.
    float scale = 1.0F, softcap = 0.0F;
    const float* mask = nullptr;
    const bool* allowed = nullptr;
    std::int64_t maskRowStride = 0, maskColumnStride = 1;
    RunningSoftmax* running = nullptr;
    float* corrections = nullptr;  // out: what earlier sums and outputs of a row have to be multiplied by
};

TCOMPRESS_INLINE void finishScores(const ScoreBlock& block, std::int64_t row, float* s,
                                   std::int64_t visible) {
    if (block.softcap > 0) {
        const float inverse = block.scale / block.softcap;
        const float cap = block.softcap;
        mapVectors(
            s, s, visible, [=](FloatVector v) __attribute__((always_inline)) {
                return tanhVector(v * inverse) * cap;
            });
    } else if (block.scale != 1.0F) {
        const float scale = block.scale;
        mapVectors(
            s, s, visible, [=](FloatVector v) __attribute__((always_inline)) { return v * scale; });
    }
    const std::int64_t offset = row * block.maskRowStride;
    if (block.mask && block.maskColumnStride == 1) {
        const float* mask = block.mask + offset;
        for (std::int64_t i = 0; i < visible; ++i) s[i] += mask[i];
    } else if (block.mask) {
        for (std::int64_t i = 0; i < visible; ++i) s[i] += block.mask[offset + i * block.maskColumnStride];
    } else if (block.allowed) {
        for (std::int64_t i = 0; i < visible; ++i)
            if (!block.allowed[offset + i * block.maskColumnStride]) s[i] = -kInfinity;
    }
}

/// One row: s → e^(s − max).
TCOMPRESS_INLINE float exponentiateRow(float* s, std::int64_t visible, std::int64_t count,
                                       RunningSoftmax& running) {
    FloatVector best = broadcastVector(running.max);
    std::int64_t i = 0;
    for (; i + kLanes <= visible; i += kLanes) {
        const FloatVector value = loadVector(s + i);
        best = value < best ? best : value;
    }
    if (i < visible) {
        const FloatVector value = loadPart(s + i, visible - i, -kInfinity);
        best = value < best ? best : value;
    }
    const float max = maxLanes(best);
    if (max == -kInfinity) {
        for (i = 0; i < count; ++i) s[i] = 0.0F;
        return 1.0F;
    }
    FloatVector sum{};
    for (i = 0; i + kLanes <= visible; i += kLanes) {
        const FloatVector value = expNonPositive(loadVector(s + i) - max);
        storeVector(s + i, value);
        sum += value;
    }
    if (i < visible) {
        const FloatVector value = expNonPositive(loadPart(s + i, visible - i, -kInfinity) - max);
        storePart(s + i, value, visible - i);
        sum += value;
    }
    for (i = visible; i < count; ++i) s[i] = 0.0F;
    const float correction = running.max == max          ? 1.0F
                             : running.max == -kInfinity ? 0.0F
                                                         : std::exp(running.max - max);
    running.sum = running.sum * correction + sumLanes(sum);
    running.max = max;
    return correction;
}

TCOMPRESS_MULTIVERSION void exponentiate(const ScoreBlock& block) {
    const bool raw = block.softcap > 0 || block.scale != 1.0F || block.mask || block.allowed;
    for (std::int64_t row = 0; row < block.rows; ++row) {
        float* s = block.scores + row * block.count;
        const std::int64_t visible =
            std::min(block.count, std::max<std::int64_t>(0, block.visible + row * block.visibleStep));
        if (raw) finishScores(block, row, s, visible);
        block.corrections[row] = exponentiateRow(s, visible, block.count, block.running[row]);
    }
}

/// y = x · factor; y may be x.
TCOMPRESS_MULTIVERSION void scaleRow(const float* x, std::int64_t count, float factor, float* y) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] * factor;
}

/// scores[j] = q · k_j.
TCOMPRESS_MULTIVERSION void dotRows(const float* q, const float* k, std::int64_t kStride, std::int64_t keys,
                                    std::int64_t size, float* scores) {
    for (std::int64_t key = 0; key < keys; ++key, k += kStride) {
        FloatVector sum{};
        std::int64_t i = 0;
        for (; i + kLanes <= size; i += kLanes) sum += loadVector(q + i) * loadVector(k + i);
        if (i < size) sum += loadPart(q + i, size - i) * loadPart(k + i, size - i);
        scores[key] = sumLanes(sum);
    }
}

/// B in panels for one call of the panel kernel a panel: packed into scratch, or where it is.
struct PanelsInPlace {
    const float* first = nullptr;
    std::int64_t distance = 0, rowStride = 0;
};

/// c[rows, columns] (+)= a[rows, k] · panels, and · alpha + bias when part is `only`.
void multiply(const float* a, std::int64_t aStride, std::int64_t rows, std::int64_t k, const PanelsInPlace& b,
              std::int64_t columns, float* c, std::int64_t cStride, PanelTask::Part part, float alpha = 1.0F,
              const float* bias = nullptr) {
    constexpr std::int64_t kStrip = 12;
    const PanelKernel kernel = panelKernel();
    PanelTask task;
    task.aStride = aStride;
    task.k = k;
    task.panelStride = b.rowStride;
    task.cStride = cStride;
    task.part = part;
    task.alpha = alpha;
    std::int64_t strips = ceilDivide(rows, kStrip);
    for (std::int64_t row = 0; row < rows; row += task.rows, --strips) {
        task.a = a + row * aStride;
        task.rows = ceilDivide(rows - row, strips);
        for (std::int64_t column = 0; column < columns; column += kPanelColumns) {
            task.panel = b.first + column / kPanelColumns * b.distance;
            task.columns = std::min(kPanelColumns, columns - column);
            task.c = c + row * cStride + column;
            task.bias = bias ? bias + column : nullptr;
            kernel(task);
        }
    }
}

class Block {
  public:
    Block(const Attention& params, std::int64_t batch, std::int64_t head, std::int64_t query)
        : params_(params), batch_(batch), head_(head), query_(query) {
        const std::int64_t keyHead = head * params.keyValueHeads / params.queryHeads;
        rows_ = std::min(kQueryBlock, params.queryLength - query);
        q_ = params.q + batch * params.qStrides.batch + head * params.qStrides.head +
             query * params.qStrides.row;
        k_ = params.k + batch * params.kStrides.batch + keyHead * params.kStrides.head;
        v_ = params.v + batch * params.vStrides.batch + keyHead * params.vStrides.head;
        out_ = params.out + batch * params.outStrides.batch + head * params.outStrides.head +
               query * params.outStrides.row;
        keys_ = params.keyLength;
        if (params.keyLengths) keys_ = std::min(keys_, params.keyLengths[batch]);
        if (params.causality == Causality::causal) keys_ = std::min(keys_, query + rows_ + params.pastLength);
        keys_ = std::max<std::int64_t>(keys_, 0);
    }

    void run() {
        const std::int64_t size = params_.valueHeadSize;
        float* scores = threadScratch<Scores, float>(rows_ * std::min(keys_, kKeyBlock));
        running_ = threadScratch<Sums, RunningSoftmax>(rows_);
        std::fill_n(running_, rows_, RunningSoftmax{});
        float corrections[kQueryBlock];
        // Collected in scratch: the rows of neighbouring heads share cache lines, and other threads write
        // those.
        float* outputs = threadScratch<Outputs, float>(rows_ * size);
        if (keys_ == 0) std::fill_n(outputs, rows_ * size, 0.0F);
        for (std::int64_t key = 0; key < keys_; key += kKeyBlock) {
            const std::int64_t count = std::min(kKeyBlock, keys_ - key);
            ScoreBlock block = scoreBlock(key, count, scores);
            scoresOf(key, block);
            block.running = running_;
            block.corrections = corrections;
            exponentiate(block);
            for (std::int64_t row = 0; row < rows_ && key > 0; ++row)
                scaleRow(outputs + row * size, size, corrections[row], outputs + row * size);
            multiply(scores, count, rows_, count, valuesOf(key, count), size, outputs, size,
                     key == 0 ? PanelTask::Part::first : PanelTask::Part::middle);
        }
        for (std::int64_t row = 0; row < rows_; ++row) {
            const float sum = running_[row].sum;
            scaleRow(outputs + row * size, size, sum == 0.0F ? 0.0F : 1.0F / sum,
                     out_ + row * params_.outStrides.row);
        }
    }

  private:
    /// Raw scores into block.scores. What the panel kernel's epilogue can do on the way is taken off the
    /// block.
    void scoresOf(std::int64_t key, ScoreBlock& block) const {
        const float* k = k_ + key * params_.kStrides.row;
        const std::int64_t count = block.count;
        if (rows_ < kFewQueries) {
            for (std::int64_t row = 0; row < rows_; ++row)
                dotRows(q_ + row * params_.qStrides.row, k, params_.kStrides.row, count, params_.headSize,
                        block.scores + row * count);
            return;
        }
        const std::int64_t panelSize = params_.headSize * kPanelColumns;
        float* panels = threadScratch<Keys, float>(ceilDivide(count, kPanelColumns) * panelSize);
        for (std::int64_t column = 0; column < count; column += kPanelColumns)
            packPanel(k + column * params_.kStrides.row, params_.headSize,
                      std::min(kPanelColumns, count - column), 1, params_.kStrides.row,
                      panels + column / kPanelColumns * panelSize);
        float alpha = 1.0F;
        const float* bias = nullptr;
        if (block.softcap == 0.0F) {
            std::swap(alpha, block.scale);
            // The same mask for every query is a bias of the columns.
            if (block.mask && block.maskRowStride == 0 && block.maskColumnStride == 1)
                std::swap(bias, block.mask);
        }
        multiply(q_, params_.qStrides.row, rows_, params_.headSize, {panels, panelSize, kPanelColumns}, count,
                 block.scores, count, PanelTask::Part::only, alpha, bias);
    }

    PanelsInPlace valuesOf(std::int64_t key, std::int64_t count) const {
        const float* v = v_ + key * params_.vStrides.row;
        const std::int64_t size = params_.valueHeadSize;
        if (size % kPanelColumns == 0) return {v, kPanelColumns, params_.vStrides.row};
        float* panels = threadScratch<Values, float>(ceilDivide(size, kPanelColumns) * count * kPanelColumns);
        for (std::int64_t column = 0; column < size; column += kPanelColumns)
            packPanel(v + column, count, std::min(kPanelColumns, size - column), params_.vStrides.row, 1,
                      panels + column * count);
        return {panels, count * kPanelColumns, kPanelColumns};
    }

    ScoreBlock scoreBlock(std::int64_t key, std::int64_t count, float* scores) const {
        ScoreBlock block;
        block.scores = scores;
        block.rows = rows_;
        block.count = count;
        block.visible = count;
        if (params_.causality == Causality::causal) {
            block.visible = query_ + params_.pastLength + 1 - key;
            block.visibleStep = 1;
        }
        block.scale = params_.scale;
        block.softcap = params_.softcap;
        const std::int64_t offset = batch_ * params_.maskStrides.batch + head_ * params_.maskStrides.head +
                                    query_ * params_.maskStrides.row + key * params_.maskColumnStride;
        if (params_.mask) block.mask = params_.mask + offset;
        if (params_.allowed) block.allowed = params_.allowed + offset;
        block.maskRowStride = params_.maskStrides.row;
        block.maskColumnStride = params_.maskColumnStride;
        return block;
    }

    const Attention& params_;
    std::int64_t batch_ = 0, head_ = 0, query_ = 0, rows_ = 0, keys_ = 0;
    const float *q_ = nullptr, *k_ = nullptr, *v_ = nullptr;
    float* out_ = nullptr;
    RunningSoftmax* running_ = nullptr;
};

}  // namespace

void attentionNative(const Attention& params) {
    const std::int64_t blocks = ceilDivide(params.queryLength, kQueryBlock);
    parallelFor(params.batch * params.queryHeads * blocks, [&](std::int64_t task) {
        const std::int64_t head = task / blocks;
        Block(params, head / params.queryHeads, head % params.queryHeads, task % blocks * kQueryBlock).run();
    });
}

}  // namespace tcompress::kernels
