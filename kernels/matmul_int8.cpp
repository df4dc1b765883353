// 8-bit products: tiles of 256 rows and one column block go through oneDNN into a 32-bit scratch tile that
// stays in the second-level cache, where the zero points are taken out and the epilogue is applied.

#include "kernels/matmul_int8.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "kernels/aligned_buffer.h"
#include "kernels/native/vector_math.h"
#include "kernels/packed_int8_weights.h"
#include "kernels/quantize.h"
#include "kernels/reference/matmul_int8_reference.h"
#include "kernels/tiles.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kBlockColumns = 256;
constexpr std::int64_t kColumnStep = 32;

struct PaddedRows;
struct TileSums;
struct RowSums;
struct QuantizedA;

/// Sums of one tile with what their columns and rows need.
struct SumsTile {
    const std::int32_t* sums = nullptr;  // dense
    std::int64_t rows = 0, columns = 0;
    std::int64_t firstRow = 0, firstColumn = 0;
    const std::int32_t* rowSums = nullptr;  // of this tile's rows of A; null when B has no zero points
};

/// sum − bZero·rowSum − aZero·columnSum, wrapping around.
TCOMPRESS_INLINE std::int32_t corrected(std::int32_t sum, std::int32_t bZero, std::int32_t rowSum,
                                        std::int32_t aZero, std::int32_t columnSum) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) -
                                     static_cast<std::uint32_t>(bZero) * static_cast<std::uint32_t>(rowSum) -
                                     static_cast<std::uint32_t>(aZero) *
                                         static_cast<std::uint32_t>(columnSum));
}

TCOMPRESS_MULTIVERSION void correctRow(const std::int32_t* sums, std::int64_t count,
                                       const std::int32_t* bZeros, std::int32_t rowSum, std::int32_t aZero,
                                       const std::int32_t* columnSums, std::int32_t* c) {
    if (bZeros) {
        for (std::int64_t i = 0; i < count; ++i)
            c[i] = corrected(sums[i], bZeros[i], rowSum, aZero, columnSums[i]);
    } else {
        for (std::int64_t i = 0; i < count; ++i) c[i] = corrected(sums[i], 0, 0, aZero, columnSums[i]);
    }
}

/// What a row of sums needs to become a row of floats; all pointers at the row's first column.
struct ScaledRow {
    const std::int32_t* sums = nullptr;
    std::int64_t count = 0;
    const std::int32_t* bZeros = nullptr;
    std::int32_t rowSum = 0;
    const std::int32_t* offsets = nullptr;  // zero point of A · column sums of B
    const float* scales = nullptr;
    const float* bias = nullptr;
    Activation activation = Activation::none;
    const float* residual = nullptr;
    float* c = nullptr;
};

template <Activation kActivation>
TCOMPRESS_INLINE FloatVector scaledVector(const ScaledRow& row, std::int64_t i, std::int64_t count) {
    using Words = std::uint32_t __attribute__((vector_size(64)));
    const auto load = [&](const std::int32_t* source) __attribute__((always_inline)) {
        Words words{};
        if (count == kLanes)
            std::memcpy(&words, source + i, sizeof words);
        else
            std::memcpy(&words, source + i, static_cast<std::size_t>(count) * sizeof(std::int32_t));
        return words;
    };
    const auto loadFloats = [&](const float* source) __attribute__((always_inline)) {
        return count == kLanes ? loadVector(source + i) : loadPart(source + i, count);
    };
    Words sum = load(row.sums) - load(row.offsets);
    if (row.bZeros) sum -= load(row.bZeros) * static_cast<std::uint32_t>(row.rowSum);
    FloatVector value =
        __builtin_convertvector(std::bit_cast<IntVector>(sum), FloatVector) * loadFloats(row.scales);
    if (row.bias) value += loadFloats(row.bias);
    value = activateVector<kActivation>(value);
    if (row.residual) value += loadFloats(row.residual);
    return value;
}

/// c = residual + activation((sum − zero points) · scale + bias).
TCOMPRESS_MULTIVERSION void scaleRow(const ScaledRow& row) {
    dispatchActivation(
        row.activation, [&]<Activation kActivation>() __attribute__((always_inline)) {
            std::int64_t i = 0;
            for (; i + kLanes <= row.count; i += kLanes)
                storeVector(row.c + i, scaledVector<kActivation>(row, i, kLanes));
            if (i < row.count)
                storePart(row.c + i, scaledVector<kActivation>(row, i, row.count - i), row.count - i);
        });
}

template <class A>
TCOMPRESS_INLINE void sumRows(const A* a, std::int64_t stride, std::int64_t rows, std::int64_t k,
                              std::int32_t* sums) {
    for (std::int64_t row = 0; row < rows; ++row) {
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < k; ++i) sum += a[row * stride + i];
        sums[row] = sum;
    }
}
TCOMPRESS_MULTIVERSION void sumRowsUnsigned(const std::uint8_t* a, std::int64_t stride, std::int64_t rows,
                                            std::int64_t k, std::int32_t* sums) {
    sumRows(a, stride, rows, k, sums);
}
TCOMPRESS_MULTIVERSION void sumRowsSigned(const std::int8_t* a, std::int64_t stride, std::int64_t rows,
                                          std::int64_t k, std::int32_t* sums) {
    sumRows(a, stride, rows, k, sums);
}

/// Runs all tiles of a · weights and hands each to finish(SumsTile).
template <class Params, class Finish>
void forEachTile(const Params& params, const Finish& finish) {
    const PackedInt8Weights& weights = *params.weights;
    // Enough tiles to share, none so small that building primitives for it would not pay.
    const std::int64_t wanted = ceilDivide(params.m, ceilDivide(params.m, onednn::kInt8TileRows));
    const std::int64_t tileRows =
        std::min(onednn::kInt8TileRows, ceilDivide(wanted, onednn::kInt8RowStep) * onednn::kInt8RowStep);
    const std::int64_t rowTiles = ceilDivide(params.m, tileRows);
    const auto columnTiles = static_cast<std::int64_t>(weights.blocks.size());
    const std::int64_t tileWork = tileRows * weights.blockColumns * weights.k;
    const std::int64_t grain = std::max<std::int64_t>(1, 2'000'000 / std::max<std::int64_t>(1, tileWork));
    parallelRanges(rowTiles * columnTiles, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t index = begin; index < end; ++index) {
            const std::int64_t row = index / columnTiles * tileRows;
            const std::int64_t block = index % columnTiles;
            const onednn::Int8Block& b = weights.blocks[static_cast<std::size_t>(block)];
            SumsTile tile;
            tile.rows = std::min(tileRows, params.m - row);
            tile.columns = b.columns();
            tile.firstRow = row;
            tile.firstColumn = block * weights.blockColumns;
            const auto* a = static_cast<const std::uint8_t*>(params.a) + row * params.aStride;
            if (!weights.zeroPoints.empty()) {
                std::int32_t* rowSums = threadScratch<RowSums, std::int32_t>(tileRows);
                if (params.aType == DType::uint8)
                    sumRowsUnsigned(a, params.aStride, tile.rows, weights.k, rowSums);
                else
                    sumRowsSigned(reinterpret_cast<const std::int8_t*>(a), params.aStride, tile.rows,
                                  weights.k, rowSums);
                tile.rowSums = rowSums;
            }
            // The last rows are copied to where rows may be added, so that the primitive's row count is a
            // round one.
            const std::int64_t padded = ceilDivide(tile.rows, onednn::kInt8RowStep) * onednn::kInt8RowStep;
            std::int64_t stride = params.aStride;
            if (padded != tile.rows || stride != weights.k) {
                auto* copy = threadScratch<PaddedRows, std::uint8_t>(tileRows * weights.k);
                for (std::int64_t r = 0; r < tile.rows; ++r)
                    std::memcpy(copy + r * weights.k, a + r * params.aStride,
                                static_cast<std::size_t>(weights.k));
                std::memset(copy + tile.rows * weights.k, 0,
                            static_cast<std::size_t>((padded - tile.rows) * weights.k));
                a = copy;
                stride = weights.k;
            }
            auto* sums = threadScratch<TileSums, std::int32_t>(tileRows * tile.columns);
            b.multiply(a, params.aType, stride, padded, sums);
            tile.sums = sums;
            finish(tile);
        }
    });
}

const std::int32_t* zerosOf(const PackedInt8Weights& weights, const SumsTile& tile) {
    return weights.zeroPoints.empty() ? nullptr : weights.zeroPoints.data() + tile.firstColumn;
}

void runInt8(const Int8Matmul& params) {
    const PackedInt8Weights& weights = *params.weights;
    forEachTile(params, [&](const SumsTile& tile) {
        for (std::int64_t row = 0; row < tile.rows; ++row) {
            const std::int64_t globalRow = tile.firstRow + row;
            const std::size_t zeroIndex =
                params.aZeroPoints.size() > 1 ? static_cast<std::size_t>(globalRow) : 0;
            correctRow(tile.sums + row * tile.columns, tile.columns, zerosOf(weights, tile),
                       tile.rowSums ? tile.rowSums[row] : 0,
                       params.aZeroPoints.empty() ? 0 : params.aZeroPoints[zeroIndex],
                       weights.columnSums.data() + tile.firstColumn,
                       params.c + globalRow * params.cStride + tile.firstColumn);
        }
    });
}

void runScaledInt8(const ScaledInt8Matmul& params) {
    const PackedInt8Weights& weights = *params.weights;
    const Epilogue& epilogue = params.epilogue;
    std::vector<float> scales(static_cast<std::size_t>(weights.n));
    std::vector<std::int32_t> offsets(scales.size());
    for (std::size_t n = 0; n < scales.size(); ++n) {
        scales[n] = params.aScale * params.bScales[params.bScales.size() > 1 ? n : 0] * epilogue.alpha;
        offsets[n] = static_cast<std::int32_t>(static_cast<std::uint32_t>(params.aZeroPoint) *
                                               static_cast<std::uint32_t>(weights.columnSums[n]));
    }
    forEachTile(params, [&](const SumsTile& tile) {
        ScaledRow row;
        row.count = tile.columns;
        row.bZeros = zerosOf(weights, tile);
        row.offsets = offsets.data() + tile.firstColumn;
        row.scales = scales.data() + tile.firstColumn;
        row.bias = epilogue.bias ? epilogue.bias + tile.firstColumn : nullptr;
        row.activation = epilogue.activation;
        for (std::int64_t r = 0; r < tile.rows; ++r) {
            const std::int64_t globalRow = tile.firstRow + r;
            row.sums = tile.sums + r * tile.columns;
            row.rowSum = tile.rowSums ? tile.rowSums[r] : 0;
            if (epilogue.residual)
                row.residual = epilogue.residual + globalRow * epilogue.residualStride + tile.firstColumn;
            row.c = params.c + globalRow * params.cStride + tile.firstColumn;
            scaleRow(row);
        }
    });
}

template <class Params>
std::optional<std::string> refuse(const Params& params) {
    if (params.weights->blocks.empty()) return "the weights are not packed for oneDNN";
    return std::nullopt;
}

constexpr std::array kInt8Kernels{
    KernelRow<Int8Matmul>{"onednn", refuse<Int8Matmul>, runInt8},
    KernelRow<Int8Matmul>{"reference", refuse<Int8Matmul>, matmulInt8Reference},
};
constexpr std::array kScaledKernels{
    KernelRow<ScaledInt8Matmul>{"onednn", refuse<ScaledInt8Matmul>, runScaledInt8},
    KernelRow<ScaledInt8Matmul>{"reference", refuse<ScaledInt8Matmul>, matmulInt8Reference},
};

/// B as int8, row-major.
std::vector<std::int8_t> signedValues(const void* b, DType type, std::int64_t k, std::int64_t n,
                                      std::int64_t rowStride, std::int64_t columnStride) {
    std::vector<std::int8_t> values(static_cast<std::size_t>(k * n));
    const auto* bytes = static_cast<const std::uint8_t*>(b);
    const std::uint8_t flip = type == DType::uint8 ? 0x80 : 0;  // the same as − 128 for uint8 → int8
    const auto copyRows = [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row)
            for (std::int64_t column = 0; column < n; ++column)
                values[static_cast<std::size_t>(row * n + column)] =
                    static_cast<std::int8_t>(bytes[row * rowStride + column * columnStride] ^ flip);
    };
    parallelRanges(k, std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, n)), copyRows);
    return values;
}

TCOMPRESS_MULTIVERSION void addRow(const std::int8_t* row, std::int64_t count, std::int32_t* sums) {
    for (std::int64_t i = 0; i < count; ++i) sums[i] += row[i];
}

}  // namespace

std::vector<std::int8_t> PackedInt8Weights::values() const {
    if (blocks.empty()) return plain;
    std::vector<std::int8_t> all(static_cast<std::size_t>(k * n));
    std::int64_t first = 0;
    for (const onednn::Int8Block& block : blocks) {
        const std::vector<std::int8_t> part = block.plain();
        for (std::int64_t row = 0; row < k; ++row)
            std::copy_n(part.begin() + row * block.columns(), block.columns(), all.begin() + row * n + first);
        first += block.columns();
    }
    return all;
}

PackedInt8WeightsPtr packInt8Weights(const void* b, DType type, std::int64_t k, std::int64_t n,
                                     std::int64_t rowStride, std::int64_t columnStride,
                                     std::span<const std::int32_t> zeroPoints) {
    TCOMPRESS_CHECK(type == DType::int8 || type == DType::uint8, "packInt8Weights: B must be int8 or uint8");
    TCOMPRESS_CHECK(zeroPoints.size() <= 1 || static_cast<std::int64_t>(zeroPoints.size()) == n,
                    "packInt8Weights: none, one or one zero point a column");
    auto packed = std::make_shared<PackedInt8Weights>();
    packed->k = k;
    packed->n = n;
    std::vector<std::int8_t> values = signedValues(b, type, k, n, rowStride, columnStride);

    const std::int32_t offset = type == DType::uint8 ? 128 : 0;
    packed->zeroPoints.resize(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < packed->zeroPoints.size(); ++i)
        packed->zeroPoints[i] = (zeroPoints.empty() ? 0 : zeroPoints[zeroPoints.size() > 1 ? i : 0]) - offset;
    packed->columnSums.assign(static_cast<std::size_t>(n), 0);
    for (std::int64_t row = 0; row < k; ++row) addRow(values.data() + row * n, n, packed->columnSums.data());
    for (std::size_t i = 0; i < packed->columnSums.size(); ++i)
        packed->columnSums[i] -= static_cast<std::int32_t>(k) * packed->zeroPoints[i];
    if (std::all_of(packed->zeroPoints.begin(), packed->zeroPoints.end(),
                    [](std::int32_t z) { return z == 0; }))
        packed->zeroPoints.clear();

    if (k == 0 || n == 0 || kernelChoice() == KernelChoice::reference || onednn::refuseInt8()) {
        packed->plain = std::move(values);
        return packed;
    }
    const std::int64_t blocks = ceilDivide(n, kBlockColumns);
    packed->blockColumns = std::min(n, ceilDivide(ceilDivide(n, blocks), kColumnStep) * kColumnStep);
    for (std::int64_t first = 0; first < n; first += packed->blockColumns) {
        const std::int64_t columns = std::min(packed->blockColumns, n - first);
        std::vector<std::int8_t> part(static_cast<std::size_t>(k * columns));
        for (std::int64_t row = 0; row < k; ++row)
            std::copy_n(values.begin() + row * n + first, columns, part.begin() + row * columns);
        packed->blocks.emplace_back(part.data(), k, columns);
    }
    return packed;
}

std::int64_t rows(const PackedInt8Weights& weights) { return weights.k; }
std::int64_t columns(const PackedInt8Weights& weights) { return weights.n; }
std::size_t sizeBytes(const PackedInt8Weights& weights) {
    std::size_t bytes = weights.plain.size();
    for (const onednn::Int8Block& block : weights.blocks) bytes += block.sizeBytes();
    return bytes + (weights.zeroPoints.size() + weights.columnSums.size()) * sizeof(std::int32_t);
}

std::span<const KernelRow<Int8Matmul>> int8MatmulKernels() { return kInt8Kernels; }
std::span<const KernelRow<ScaledInt8Matmul>> scaledInt8MatmulKernels() { return kScaledKernels; }

void matmulInt8(const Int8Matmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmulInt8: no weights");
    TCOMPRESS_CHECK(params.aType == DType::int8 || params.aType == DType::uint8,
                    "matmulInt8: A must be 8 bits wide");
    if (params.m == 0 || params.weights->n == 0) return;
    selectKernel(int8MatmulKernels(), params).run(params);
}

void matmulInt8(const ScaledInt8Matmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmulInt8: no weights");
    TCOMPRESS_CHECK(
        params.bScales.size() == 1 || static_cast<std::int64_t>(params.bScales.size()) == params.weights->n,
        "matmulInt8: one scale, or one a column");
    if (params.m == 0 || params.weights->n == 0) return;
    selectKernel(scaledInt8MatmulKernels(), params).run(params);
}

void matmulInt8(const DynamicInt8Matmul& params) {
    TCOMPRESS_CHECK(params.weights != nullptr, "matmulInt8: no weights");
    const std::int64_t k = params.weights->k;
    auto* quantized = threadScratch<QuantizedA, std::uint8_t>(params.m * k);
    const UInt8Parameters parameters =
        dynamicQuantizeLinear(params.a, params.m, k, params.aStride, quantized);
    ScaledInt8Matmul scaled;
    scaled.a = quantized;
    scaled.aStride = k;
    scaled.m = params.m;
    scaled.aZeroPoint = parameters.zeroPoint;
    scaled.aScale = parameters.scale;
    scaled.weights = params.weights;
    scaled.bScales = params.bScales;
    scaled.c = params.c;
    scaled.cStride = params.cStride;
    scaled.epilogue = params.epilogue;
    matmulInt8(scaled);
}

void matmulInt8Unpacked(const void* a, DType aType, std::span<const std::int32_t> aZeroPoints, const void* b,
                        DType bType, std::span<const std::int32_t> bZeroPoints, std::int64_t m,
                        std::int64_t k, std::int64_t n, std::int32_t* c) {
    const PackedInt8WeightsPtr packed = packInt8Weights(b, bType, k, n, n, 1, bZeroPoints);
    matmulInt8(Int8Matmul{a, aType, k, m, aZeroPoints, packed.get(), c, n});
}

}  // namespace tcompress::kernels
