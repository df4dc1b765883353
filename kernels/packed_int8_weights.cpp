#include "kernels/packed_int8_weights.h"

#include <algorithm>
#include <cstring>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kBlockColumns = 256;
constexpr std::int64_t kColumnStep = 32;

/// B as it comes.
struct Source {
    const std::uint8_t* bytes = nullptr;
    std::int64_t k = 0, n = 0;
    std::int64_t rowStride = 0, columnStride = 0;
    std::uint8_t flip = 0;  // 0x80 does the same as − 128 for uint8 → int8
};

/// Rows [0, k) and `columns` columns from `first` on, row-major.
std::vector<std::int8_t> columnBlock(const Source& b, std::int64_t first, std::int64_t columns) {
    std::vector<std::int8_t> block(static_cast<std::size_t>(b.k * columns));
    for (std::int64_t row = 0; row < b.k; ++row)
        for (std::int64_t column = 0; column < columns; ++column)
            block[static_cast<std::size_t>(row * columns + column)] = static_cast<std::int8_t>(
                b.bytes[row * b.rowStride + (first + column) * b.columnStride] ^ b.flip);
    return block;
}

/// One group of four rows: target[column][4].
TCOMPRESS_MULTIVERSION void interleave(const std::int8_t* rows, std::int64_t stride, std::int64_t count,
                                       std::int64_t columns, std::int8_t* target) {
    for (std::int64_t row = 0; row < count; ++row)
        for (std::int64_t column = 0; column < columns; ++column)
            target[column * kInt8Group + row] = rows[row * stride + column];
}

TCOMPRESS_MULTIVERSION void addRow(const std::int8_t* row, std::int64_t count, std::int32_t* sums) {
    for (std::int64_t i = 0; i < count; ++i) sums[i] += row[i];
}

void packPanel(const std::vector<std::int8_t>& block, std::int64_t k, std::int64_t columns,
               std::int8_t* panel) {
    std::memset(panel, 0, static_cast<std::size_t>(ceilDivide(k, kInt8Group) * kInt8PanelBytesPerGroup));
    for (std::int64_t row = 0; row < k; row += kInt8Group)
        interleave(block.data() + row * columns, columns, std::min(kInt8Group, k - row), columns,
                   panel + row / kInt8Group * kInt8PanelBytesPerGroup);
}

void sumColumns(const std::vector<std::int8_t>& block, std::int64_t k, std::int64_t columns,
                std::int32_t* sums) {
    for (std::int64_t row = 0; row < k; ++row) addRow(block.data() + row * columns, columns, sums);
}

}  // namespace

Int8Form bestInt8Form() {
    return onednn::refuseInt8() || !onednn::hasMatrixUnits() ? Int8Form::panels : Int8Form::onednnBlocks;
}

std::vector<std::int8_t> PackedInt8Weights::values() const {
    std::vector<std::int8_t> all(static_cast<std::size_t>(k * n));
    if (form == Int8Form::panels) {
        for (std::int64_t row = 0; row < k; ++row)
            for (std::int64_t column = 0; column < n; ++column)
                all[static_cast<std::size_t>(row * n + column)] = panel(
                    column / kInt8PanelColumns)[row / kInt8Group * kInt8PanelBytesPerGroup +
                                                column % kInt8PanelColumns * kInt8Group + row % kInt8Group];
        return all;
    }
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
                                     std::span<const std::int32_t> zeroPoints, Int8Form form) {
    TCOMPRESS_CHECK(type == DType::int8 || type == DType::uint8, "packInt8Weights: B must be int8 or uint8");
    TCOMPRESS_CHECK(zeroPoints.size() <= 1 || static_cast<std::int64_t>(zeroPoints.size()) == n,
                    "packInt8Weights: none, one or one zero point a column");
    auto packed = std::make_shared<PackedInt8Weights>();
    packed->k = k;
    packed->n = n;
    packed->form = k == 0 || n == 0 ? Int8Form::panels : form;
    packed->columnSums.assign(static_cast<std::size_t>(n), 0);
    const Source source{static_cast<const std::uint8_t*>(b),
                        k,
                        n,
                        rowStride,
                        columnStride,
                        static_cast<std::uint8_t>(type == DType::uint8 ? 0x80 : 0)};
    if (packed->form == Int8Form::panels) {
        const std::int64_t count = ceilDivide(n, kInt8PanelColumns);
        packed->panels = AlignedBuffer<std::int8_t>(count * packed->panelBytes());
        parallelFor(count, [&](std::int64_t index) {
            const std::int64_t first = index * kInt8PanelColumns;
            const std::int64_t columns = std::min(kInt8PanelColumns, n - first);
            const std::vector<std::int8_t> block = columnBlock(source, first, columns);
            packPanel(block, k, columns, packed->panels.data() + index * packed->panelBytes());
            sumColumns(block, k, columns, packed->columnSums.data() + first);
        });
    } else {
        const std::int64_t count = ceilDivide(n, kBlockColumns);
        packed->blockColumns = std::min(n, ceilDivide(ceilDivide(n, count), kColumnStep) * kColumnStep);
        for (std::int64_t first = 0; first < n; first += packed->blockColumns) {
            const std::int64_t columns = std::min(packed->blockColumns, n - first);
            const std::vector<std::int8_t> block = columnBlock(source, first, columns);
            packed->blocks.emplace_back(block.data(), k, columns);
            sumColumns(block, k, columns, packed->columnSums.data() + first);
        }
    }
    const std::int32_t offset = type == DType::uint8 ? 128 : 0;
    packed->zeroPoints.resize(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < packed->zeroPoints.size(); ++i) {
        packed->zeroPoints[i] = (zeroPoints.empty() ? 0 : zeroPoints[zeroPoints.size() > 1 ? i : 0]) - offset;
        packed->columnSums[i] -= static_cast<std::int32_t>(k) * packed->zeroPoints[i];
    }
    if (std::all_of(packed->zeroPoints.begin(), packed->zeroPoints.end(),
                    [](std::int32_t z) { return z == 0; }))
        packed->zeroPoints.clear();
    return packed;
}

PackedInt8WeightsPtr packInt8Weights(const void* b, DType type, std::int64_t k, std::int64_t n,
                                     std::int64_t rowStride, std::int64_t columnStride,
                                     std::span<const std::int32_t> zeroPoints) {
    return packInt8Weights(b, type, k, n, rowStride, columnStride, zeroPoints, bestInt8Form());
}

std::int64_t rows(const PackedInt8Weights& weights) { return weights.k; }
std::int64_t columns(const PackedInt8Weights& weights) { return weights.n; }
std::size_t sizeBytes(const PackedInt8Weights& weights) {
    auto bytes = static_cast<std::size_t>(weights.panels.size());
    for (const onednn::Int8Block& block : weights.blocks) bytes += block.sizeBytes();
    return bytes + (weights.zeroPoints.size() + weights.columnSums.size()) * sizeof(std::int32_t);
}

}  // namespace tcompress::kernels
