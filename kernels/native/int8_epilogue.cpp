#include "kernels/native/int8_epilogue.h"

#include "kernels/native/vector_code.h"
#include "kernels/packed_int8_weights.h"

namespace tcompress::kernels {

namespace {

using Words = std::uint32_t __attribute__((vector_size(64)));

/// sum − bZero·rowSum − aZero·columnSum, wrapping around.
TCOMPRESS_MULTIVERSION void correctRow(const std::int32_t* sums, std::int64_t count,
                                       const std::int32_t* bZeros, std::uint32_t rowSum, std::uint32_t aZero,
                                       const std::int32_t* columnSums, std::int32_t* c) {
    const auto word = [](std::int32_t value) { return static_cast<std::uint32_t>(value); };
    if (bZeros) {
        for (std::int64_t i = 0; i < count; ++i)
            c[i] = static_cast<std::int32_t>(word(sums[i]) - word(bZeros[i]) * rowSum -
                                             aZero * word(columnSums[i]));
    } else {
        for (std::int64_t i = 0; i < count; ++i)
            c[i] = static_cast<std::int32_t>(word(sums[i]) - aZero * word(columnSums[i]));
    }
}

struct Row {
    const std::int32_t* sums;
    std::int64_t count;
    const std::int32_t* bZeros;
    std::uint32_t rowSum;
    const std::int32_t* offsets;
    const float* scales;
    const float* bias;
    const float* residual;
    void* c;
};

enum class Stages { floats, codes };  // no codes on the way, or some

template <class T>
TCOMPRESS_INLINE T loadSome(const void* source, std::int64_t count) {
    T value{};
    if (count == kLanes)
        std::memcpy(&value, source, sizeof value);
    else
        std::memcpy(&value, source, static_cast<std::size_t>(count) * 4);
    return value;
}

template <Activation kActivation, Stages kStages>
TCOMPRESS_INLINE void finishVector(const Row& row, std::int64_t i, std::int64_t count,
                                   const VectorCode* beforeBias, const VectorCode* result) {
    Words sum = loadSome<Words>(row.sums + i, count) - loadSome<Words>(row.offsets + i, count);
    if (row.bZeros) sum -= loadSome<Words>(row.bZeros + i, count) * row.rowSum;
    FloatVector value = __builtin_convertvector(std::bit_cast<IntVector>(sum), FloatVector) *
                        loadSome<FloatVector>(row.scales + i, count);
    if constexpr (kStages == Stages::codes)
        if (beforeBias) value = roundToCode(value, *beforeBias);
    if (row.bias) value += loadSome<FloatVector>(row.bias + i, count);
    value = activateVector<kActivation>(value);
    if (row.residual) value += loadSome<FloatVector>(row.residual + i, count);
    if constexpr (kStages == Stages::codes) {
        if (result) {
            storeCodes(static_cast<std::uint8_t*>(row.c) + i, value, *result, count);
            return;
        }
    }
    std::memcpy(static_cast<float*>(row.c) + i, &value, static_cast<std::size_t>(count) * sizeof(float));
}

template <Stages kStages>
TCOMPRESS_INLINE void finishRow(const Row& row, Activation activation, const VectorCode* beforeBias,
                                const VectorCode* result) {
    dispatchActivation(
        activation, [&]<Activation kActivation>() __attribute__((always_inline)) {
            std::int64_t i = 0;
            for (; i + kLanes <= row.count; i += kLanes)
                finishVector<kActivation, kStages>(row, i, kLanes, beforeBias, result);
            if (i < row.count) finishVector<kActivation, kStages>(row, i, row.count - i, beforeBias, result);
        });
}

TCOMPRESS_MULTIVERSION void finishFloats(const Row& row, Activation activation) {
    finishRow<Stages::floats>(row, activation, nullptr, nullptr);
}
TCOMPRESS_MULTIVERSION void finishCodes(const Row& row, Activation activation, const VectorCode* beforeBias,
                                        const VectorCode* result) {
    finishRow<Stages::codes>(row, activation, beforeBias, result);
}

}  // namespace

void correctInt8Sums(const Int8Sums& block, const PackedInt8Weights& weights,
                     std::span<const std::int32_t> aZeroPoints, std::int32_t* c, std::int64_t cStride) {
    for (std::int64_t r = 0; r < block.rows; ++r) {
        const std::int64_t row = block.firstRow + r;
        const std::int32_t zero =
            aZeroPoints.empty() ? 0 : aZeroPoints[aZeroPoints.size() > 1 ? static_cast<std::size_t>(row) : 0];
        correctRow(block.sums + r * block.stride, block.columns,
                   weights.zeroPoints.empty() ? nullptr : weights.zeroPoints.data() + block.firstColumn,
                   static_cast<std::uint32_t>(block.rowSums ? block.rowSums[r] : 0),
                   static_cast<std::uint32_t>(zero + block.aShift),
                   weights.columnSums.data() + block.firstColumn, c + row * cStride + block.firstColumn);
    }
}

void finishInt8Sums(const Int8Sums& block, const Int8Finish& finish) {
    const Epilogue& epilogue = finish.epilogue;
    const std::int64_t column = block.firstColumn;
    VectorCode beforeBias, result;
    if (finish.beforeBias) beforeBias = vectorCode(*finish.beforeBias);
    if (finish.result) result = vectorCode(*finish.result);
    const std::int64_t width = finish.result ? 1 : static_cast<std::int64_t>(sizeof(float));
    Row row{};
    row.count = block.columns;
    row.bZeros = finish.bZeros ? finish.bZeros + column : nullptr;
    row.offsets = finish.offsets + column;
    row.scales = finish.scales + column;
    row.bias = epilogue.bias ? epilogue.bias + column : nullptr;
    for (std::int64_t r = 0; r < block.rows; ++r) {
        const std::int64_t target = block.firstRow + r;
        row.sums = block.sums + r * block.stride;
        row.rowSum = static_cast<std::uint32_t>(block.rowSums ? block.rowSums[r] : 0);
        row.residual =
            epilogue.residual ? epilogue.residual + target * epilogue.residualStride + column : nullptr;
        row.c = static_cast<std::byte*>(finish.c) + (target * finish.cStride + column) * width;
        if (finish.beforeBias || finish.result)
            finishCodes(row, epilogue.activation, finish.beforeBias ? &beforeBias : nullptr,
                        finish.result ? &result : nullptr);
        else
            finishFloats(row, epilogue.activation);
    }
}

}  // namespace tcompress::kernels
