// A task is one block of queries of one head. Scores of the block against a block of keys come from the panel
// kernel (keys transposed into panels), go through the running softmax, and multiply the values, which are
// read in place.

#include "kernels/native/attention_native.h"

#include <algorithm>
#include <cmath>
#include <limits>

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

struct ScoreRow {
    float* scores = nullptr;
    std::int64_t count = 0;    // keys of the block
    std::int64_t visible = 0;  // of those, the first that this query may see
    float scale = 1.0F, softcap = 0.0F;
    const float* mask = nullptr;
    const bool* allowed = nullptr;
    std::int64_t maskStride = 1;
};

TCOMPRESS_INLINE void maskRow(const ScoreRow& row) {
    if (row.mask && row.maskStride == 1) {
        for (std::int64_t i = 0; i < row.visible; ++i) row.scores[i] += row.mask[i];
    } else if (row.mask) {
        for (std::int64_t i = 0; i < row.visible; ++i) row.scores[i] += row.mask[i * row.maskStride];
    } else if (row.allowed) {
        for (std::int64_t i = 0; i < row.visible; ++i)
            if (!row.allowed[i * row.maskStride]) row.scores[i] = -kInfinity;
    }
}

/// scores → e^(score − max); returns what earlier sums and outputs have to be multiplied by.
TCOMPRESS_MULTIVERSION float exponentiateRow(const ScoreRow& row, RunningSoftmax* running) {
    float* s = row.scores;
    if (row.softcap > 0) {
        const float inverse = row.scale / row.softcap;
        const float cap = row.softcap;
        mapVectors(
            s, s, row.visible, [=](FloatVector v) __attribute__((always_inline)) {
                return tanhVector(v * inverse) * cap;
            });
    } else {
        const float scale = row.scale;
        mapVectors(
            s, s, row.visible, [=](FloatVector v) __attribute__((always_inline)) { return v * scale; });
    }
    maskRow(row);
    FloatVector best = broadcastVector(running->max);
    std::int64_t i = 0;
    for (; i + kLanes <= row.visible; i += kLanes) {
        const FloatVector value = loadVector(s + i);
        best = value < best ? best : value;
    }
    if (i < row.visible) {
        const FloatVector value = loadPart(s + i, row.visible - i, -kInfinity);
        best = value < best ? best : value;
    }
    const float max = maxLanes(best);
    if (max == -kInfinity) {
        std::memset(s, 0, static_cast<std::size_t>(row.count) * sizeof(float));
        return 1.0F;
    }
    FloatVector sum{};
    i = 0;
    for (; i + kLanes <= row.visible; i += kLanes) {
        const FloatVector value = expNonPositive(loadVector(s + i) - max);
        storeVector(s + i, value);
        sum += value;
    }
    if (i < row.visible) {
        const FloatVector value = expNonPositive(loadPart(s + i, row.visible - i, -kInfinity) - max);
        storePart(s + i, value, row.visible - i);
        sum += value;
    }
    for (i = row.visible; i < row.count; ++i) s[i] = 0.0F;
    const float correction = running->max == max          ? 1.0F
                             : running->max == -kInfinity ? 0.0F
                                                          : std::exp(running->max - max);
    running->sum = running->sum * correction + sumLanes(sum);
    running->max = max;
    return correction;
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

/// c[rows, columns] (+)= a[rows, k] · panels.
void multiply(const float* a, std::int64_t aStride, std::int64_t rows, std::int64_t k, const PanelsInPlace& b,
              std::int64_t columns, float* c, std::int64_t cStride, PanelTask::Part part) {
    constexpr std::int64_t kStrip = 12;
    const PanelKernel kernel = panelKernel();
    PanelTask task;
    task.aStride = aStride;
    task.k = k;
    task.panelStride = b.rowStride;
    task.cStride = cStride;
    task.part = part;
    std::int64_t strips = ceilDivide(rows, kStrip);
    for (std::int64_t row = 0; row < rows; row += task.rows, --strips) {
        task.a = a + row * aStride;
        task.rows = ceilDivide(rows - row, strips);
        for (std::int64_t column = 0; column < columns; column += kPanelColumns) {
            task.panel = b.first + column / kPanelColumns * b.distance;
            task.columns = std::min(kPanelColumns, columns - column);
            task.c = c + row * cStride + column;
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
        // Collected in scratch: the rows of neighbouring heads share cache lines, and other threads write
        // those.
        float* outputs = threadScratch<Outputs, float>(rows_ * size);
        if (keys_ == 0) std::fill_n(outputs, rows_ * size, 0.0F);
        for (std::int64_t key = 0; key < keys_; key += kKeyBlock) {
            const std::int64_t count = std::min(kKeyBlock, keys_ - key);
            scoresOf(key, count, scores);
            for (std::int64_t row = 0; row < rows_; ++row) {
                const float correction = exponentiateRow(scoreRow(row, key, count, scores), &running_[row]);
                if (key > 0 && correction != 1.0F)
                    scaleRow(outputs + row * size, size, correction, outputs + row * size);
            }
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
    void scoresOf(std::int64_t key, std::int64_t count, float* scores) const {
        const float* k = k_ + key * params_.kStrides.row;
        if (rows_ < kFewQueries) {
            for (std::int64_t row = 0; row < rows_; ++row)
                dotRows(q_ + row * params_.qStrides.row, k, params_.kStrides.row, count, params_.headSize,
                        scores + row * count);
            return;
        }
        const std::int64_t panelSize = params_.headSize * kPanelColumns;
        float* panels = threadScratch<Keys, float>(ceilDivide(count, kPanelColumns) * panelSize);
        for (std::int64_t column = 0; column < count; column += kPanelColumns)
            packPanel(k + column * params_.kStrides.row, params_.headSize,
                      std::min(kPanelColumns, count - column), 1, params_.kStrides.row,
                      panels + column / kPanelColumns * panelSize);
        multiply(q_, params_.qStrides.row, rows_, params_.headSize, {panels, panelSize, kPanelColumns}, count,
                 scores, count, PanelTask::Part::first);
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

    ScoreRow scoreRow(std::int64_t row, std::int64_t key, std::int64_t count, float* scores) const {
        ScoreRow result;
        result.scores = scores + row * count;
        result.count = count;
        result.visible = count;
        if (params_.causality == Causality::causal)
            result.visible = std::clamp<std::int64_t>(query_ + row + params_.pastLength + 1 - key, 0, count);
        result.scale = params_.scale;
        result.softcap = params_.softcap;
        const std::int64_t offset = batch_ * params_.maskStrides.batch + head_ * params_.maskStrides.head +
                                    (query_ + row) * params_.maskStrides.row + key * params_.maskColumnStride;
        if (params_.mask) result.mask = params_.mask + offset;
        if (params_.allowed) result.allowed = params_.allowed + offset;
        result.maskStride = params_.maskColumnStride;
        return result;
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
