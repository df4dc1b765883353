// Attention with the queries in the lanes: scores are kept transposed, [keys][32 queries], so that the softmax of 32
// queries is element-wise work on rows, without a sum across lanes. Powers of two instead of e: its logarithm is part
// of the scale.

#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/aligned_buffer.h"
#include "kernels/native/attention_slice.h"
#include "kernels/native/transpose_matrix.h"
#include "kernels/native/vector_math.h"
#include "kernels/packed_weights.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kKeyBlock = 512;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLog2OfE = std::numbers::log2e_v<float>;
constexpr int kVectors = static_cast<int>(kPanelColumns) / kLanes;

struct Queries;
struct Scores;
struct Outputs;
struct MaskPlane;
struct MaskColumn;

/// The softmax of 32 queries over all key blocks so far: maxima (of scores · log2 e) and sums.
struct RunningSoftmax {
    FloatVector max[kVectors];
    FloatVector sum[kVectors];
    /// What earlier sums and outputs were multiplied by when the last block came.
    alignas(64) float correction[kPanelColumns];
};

/// Transposed scores of a block of keys, [keys][32], and what is left to do to them, in this order.
struct ScoreBlock {
    float* scores = nullptr;
    std::int64_t keys = 0;
    float softcap = 0.0F;           // scores are score / softcap then
    const float* column = nullptr;  // one addend a key
    const float* plane = nullptr;   // [keys][32]; −∞ hides whatever the score is
    bool causal = false;
    std::int64_t visible = 0;  // keys that query 0 sees; each later one sees one more
};

/// s of one key, ready for the softmax.
TCOMPRESS_INLINE FloatVector finishScore(const ScoreBlock& block, std::int64_t key, int vector, FloatVector s) {
    if (block.softcap > 0) s = tanhVector(s) * (block.softcap * kLog2OfE);
    if (block.column) {
        const float addend = block.column[key];
        s = addend == -kInfinity ? broadcastVector(addend) : s + addend * kLog2OfE;
    }
    if (block.plane) {
        const FloatVector addend = loadVector(block.plane + key * kPanelColumns + vector * kLanes);
        s = addend == -kInfinity ? addend : s + addend * kLog2OfE;
    }
    if (block.causal && key >= block.visible) {
        constexpr IntVector kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const IntVector seen = kLane + static_cast<std::int32_t>(block.visible - key + vector * kLanes);
        s = seen > 0 ? s : broadcastVector(-kInfinity);
    }
    return s;
}

template <bool kRaw>
TCOMPRESS_INLINE void exponentiateColumns(const ScoreBlock& block, RunningSoftmax& running, int vector) {
    float* scores = block.scores + vector * kLanes;
    FloatVector max = running.max[vector];
    for (std::int64_t key = 0; key < block.keys; ++key) {
        FloatVector s = loadVector(scores + key * kPanelColumns);
        if constexpr (kRaw) {
            s = finishScore(block, key, vector, s);
            storeVector(scores + key * kPanelColumns, s);
        }
        max = max < s ? s : max;
    }
    // A query that has seen no key yet: any finite shift makes its weights zero.
    const FloatVector shift = max == -kInfinity ? FloatVector{} : max;
    FloatVector sum{};
    for (std::int64_t key = 0; key < block.keys; ++key) {
        const FloatVector weight = exp2NonPositive(loadVector(scores + key * kPanelColumns) - shift);
        storeVector(scores + key * kPanelColumns, weight);
        sum += weight;
    }
    const FloatVector correction = exp2NonPositive(running.max[vector] - shift);
    storeVector(running.correction + vector * kLanes, correction);
    running.sum[vector] = running.sum[vector] * correction + sum;
    running.max[vector] = max;
}

/// Scores become weights 2^(s − max).
TCOMPRESS_MULTIVERSION void exponentiate(const ScoreBlock& block, RunningSoftmax& running, int vectors) {
    const bool raw = block.softcap > 0 || block.column || block.plane || block.causal;
    for (int vector = 0; vector < vectors; ++vector) {
        if (raw) {
            exponentiateColumns<true>(block, running, vector);
        } else {
            exponentiateColumns<false>(block, running, vector);
        }
    }
}

/// y[row] = x[row] · factors[row]; y may be x.
TCOMPRESS_MULTIVERSION void scaleRows(const float* x, std::int64_t xStride, const float* factors, std::int64_t rows,
                                      std::int64_t columns, float* y, std::int64_t yStride) {
    for (std::int64_t row = 0; row < rows; ++row) {
        const float factor = factors[row];
        mapVectors(
            x + row * xStride, y + row * yStride, columns,
            [=](FloatVector v) __attribute__((always_inline)) { return v * factor; });
    }
}

class PanelBlock {
  public:
    explicit PanelBlock(const AttentionSlice& slice)
        : slice_(slice), params_(slice.params), values_(valuePanels(slice)) {}

    void run() {
        for (std::int64_t first = 0; first < slice_.rows; first += kPanelColumns)
            attend(first, std::min(kPanelColumns, slice_.rows - first));
    }

  private:
    /// `rows` ≤ 32 queries from `first` on.
    void attend(std::int64_t first, std::int64_t rows) {
        const int vectors = static_cast<int>(ceilDivide(rows, kLanes));
        const std::int64_t size = params_.valueHeadSize;
        // Panels are filled up with zeros: whole vectors throughout.
        const std::int64_t width = ceilDivide(size, kLanes) * kLanes;
        std::int64_t keys = slice_.keys;
        if (params_.causality == Causality::causal)
            keys = std::min(keys, slice_.query + first + rows + params_.pastLength);
        float* queries = threadScratch<Queries, float>(params_.headSize * kPanelColumns);
        packPanel(slice_.q + first * params_.qStrides.row, params_.headSize, rows, 1, params_.qStrides.row, queries);
        float* scores = threadScratch<Scores, float>(kKeyBlock * kPanelColumns);
        // Collected in scratch: the rows of neighbouring heads share cache lines, and other threads write those.
        float* outputs = threadScratch<Outputs, float>(kPanelColumns * width);
        if (keys <= 0) std::fill_n(outputs, kPanelColumns * width, 0.0F);
        RunningSoftmax running;
        for (int v = 0; v < kVectors; ++v) {
            running.max[v] = broadcastVector(-kInfinity);
            running.sum[v] = FloatVector{};
        }
        for (std::int64_t key = 0; key < keys; key += kKeyBlock) {
            const std::int64_t count = std::min(kKeyBlock, keys - key);
            const bool capped = params_.softcap > 0;
            multiplyPanels({slice_.k + key * params_.kStrides.row, params_.kStrides.row}, count, params_.headSize,
                           {queries}, vectors * kLanes, scores, kPanelColumns, PanelTask::Part::only,
                           capped ? params_.scale / params_.softcap : params_.scale * kLog2OfE);
            exponentiate(scoreBlock(first, rows, key, count, scores), running, vectors);
            if (key > 0) scaleRows(outputs, width, running.correction, rows, width, outputs, width);
            const PanelSequence values{values_.first + key * values_.rowStride, values_.distance, values_.rowStride};
            multiplyPanels({scores, 1, kPanelColumns}, rows, count, values, width, outputs, width,
                           key == 0 ? PanelTask::Part::first : PanelTask::Part::middle);
        }
        float factors[kPanelColumns];
        for (std::int64_t row = 0; row < rows; ++row) {
            const float sum = running.sum[row / kLanes][row % kLanes];
            factors[row] = sum == 0.0F ? 0.0F : 1.0F / sum;
        }
        scaleRows(outputs, width, factors, rows, size, slice_.out + first * params_.outStrides.row,
                  params_.outStrides.row);
    }

    ScoreBlock scoreBlock(std::int64_t first, std::int64_t rows, std::int64_t key, std::int64_t count,
                          float* scores) const {
        ScoreBlock block;
        block.scores = scores;
        block.keys = count;
        block.softcap = params_.softcap;
        block.causal = params_.causality == Causality::causal;
        block.visible = slice_.query + first + params_.pastLength + 1 - key;
        if (!params_.mask && !params_.allowed) return block;
        const std::int64_t step = params_.maskColumnStride;
        const std::int64_t rowStride = params_.maskStrides.row;
        const std::int64_t offset = slice_.maskOffset + first * rowStride + key * step;
        if (rowStride == 0) {
            float* column = threadScratch<MaskColumn, float>(kKeyBlock);
            for (std::int64_t i = 0; i < count; ++i) column[i] = addend(offset + i * step);
            block.column = column;
            return block;
        }
        float* plane = threadScratch<MaskPlane, float>(kKeyBlock * kPanelColumns);
        if (params_.mask && step == 1) {
            transposeMatrix(params_.mask + offset, rowStride, rows, count, plane, kPanelColumns);
        } else {
            for (std::int64_t i = 0; i < count; ++i)
                for (std::int64_t row = 0; row < rows; ++row)
                    plane[i * kPanelColumns + row] = addend(offset + row * rowStride + i * step);
        }
        for (std::int64_t i = 0; i < count; ++i)
            std::fill(plane + i * kPanelColumns + rows, plane + (i + 1) * kPanelColumns, 0.0F);
        block.plane = plane;
        return block;
    }

    float addend(std::int64_t offset) const {
        if (params_.mask) return params_.mask[offset];
        return params_.allowed[offset] ? 0.0F : -kInfinity;
    }

    const AttentionSlice& slice_;
    const Attention& params_;
    const PanelSequence values_;
};

}  // namespace

void attendPanels(const AttentionSlice& slice) { PanelBlock(slice).run(); }

}  // namespace tcompress::kernels
