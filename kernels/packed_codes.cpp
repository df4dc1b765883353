#include "kernels/packed_codes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "kernels/multiversion.h"
#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// k that are gathered at a time: a cache line of a column whose codes are neighbours.
constexpr std::int64_t kGathered = 64;

/// Four neighbouring k of each column as one 32-bit number, the first k lowest.
using Fours = std::uint32_t[kGathered / 4][kPanelColumns];

TCOMPRESS_MULTIVERSION void fourRows(const std::uint8_t* rows, std::int64_t stride, std::int64_t columns,
                                     std::uint32_t* target) {
    for (std::int64_t column = 0; column < columns; ++column)
        target[column] = rows[column] | static_cast<std::uint32_t>(rows[stride + column]) << 8 |
                         static_cast<std::uint32_t>(rows[2 * stride + column]) << 16 |
                         static_cast<std::uint32_t>(rows[3 * stride + column]) << 24;
}

/// kGathered values of k from k on, of `columns` columns; beyond K zeros.
void gather(const CodedMatrix& matrix, std::int64_t k, std::int64_t first, std::int64_t columns,
            Fours& fours) {
    const std::uint8_t* codes = matrix.codes + k * matrix.rowStride + first * matrix.columnStride;
    const std::int64_t count = std::min(kGathered, matrix.k - k);
    if (matrix.columnStride == 1 && count == kGathered) {
        for (std::int64_t i = 0; i < kGathered / 4; ++i)
            fourRows(codes + 4 * i * matrix.rowStride, matrix.rowStride, columns, fours[i]);
    } else if (matrix.rowStride == 1 && count == kGathered) {
        for (std::int64_t column = 0; column < columns; ++column) {
            std::uint32_t line[kGathered / 4];
            std::memcpy(line, codes + column * matrix.columnStride, sizeof line);
            for (std::int64_t i = 0; i < kGathered / 4; ++i) fours[i][column] = line[i];
        }
    } else {
        std::memset(fours, 0, sizeof fours);
        for (std::int64_t i = 0; i < count; ++i)
            for (std::int64_t column = 0; column < columns; ++column)
                fours[i / 4][column] |=
                    static_cast<std::uint32_t>(codes[i * matrix.rowStride + column * matrix.columnStride])
                    << (i % 4 * 8);
    }
}

void packPanel(const CodedMatrix& matrix, std::int64_t first, std::int64_t columns, std::int64_t groups,
               std::uint32_t* words) {
    const std::int64_t slots = 8 / matrix.bits;
    // Flips the highest bit of every code: the same as − 2^(bits−1), in two's complement.
    std::uint32_t flip = 0;
    for (int bit = matrix.bits - 1; bit < 32; bit += matrix.bits) flip |= 1U << bit;
    Fours fours = {};
    for (std::int64_t group = 0; group < groups; group += kGathered / 4 / slots) {
        gather(matrix, group * slots * 4, first, columns, fours);
        const std::int64_t end = std::min(groups, group + kGathered / 4 / slots);
        for (std::int64_t i = group; i < end; ++i, words += kPanelColumns)
            for (std::int64_t column = 0; column < kPanelColumns; ++column) {
                std::uint32_t word = flip;
                for (std::int64_t slot = 0; slot < slots; ++slot)
                    word ^= fours[(i - group) * slots + slot][column] << (slot * matrix.bits);
                words[column] = word;
            }
    }
}

}  // namespace

float PackedCodes::value(std::int64_t row, std::int64_t column) const {
    const std::int64_t index = column / kPanelColumns;
    const std::int64_t lane = column % kPanelColumns;
    const std::uint32_t word = panel(index)[row / codesPerWord() * kPanelColumns + lane];
    const int shift = codePosition(bits, static_cast<int>(row % codesPerWord()));
    const std::int32_t code = static_cast<std::int32_t>(word << (32 - bits - shift)) >> (32 - bits);
    const std::int64_t place = row / block * kPanelColumns + lane;
    const float zeroPoint = panelZeros(index) ? panelZeros(index)[place] : zero;
    return (static_cast<float>(code) - zeroPoint) * panelScales(index)[place];
}

std::optional<std::string> refuseCodes(int bits, std::int64_t block, std::int64_t k) {
    if (bits != 2 && bits != 4 && bits != 8) return fmt::format("codes of {} bits are not packed", bits);
    if (block < k && (block <= 0 || block % (32 / bits) != 0))
        return fmt::format("blocks of {} do not hold whole words of {} codes", block, 32 / bits);
    return std::nullopt;
}

PackedCodesPtr packCodes(const CodedMatrix& matrix) {
    TCOMPRESS_CHECK(!refuseCodes(matrix.bits, matrix.block, matrix.k),
                    "packCodes: a matrix that cannot be packed");
    auto packed = std::make_shared<PackedCodes>();
    packed->k = matrix.k;
    packed->n = matrix.n;
    packed->bits = matrix.bits;
    const std::int64_t perWord = packed->codesPerWord();
    packed->block =
        matrix.block < matrix.k ? matrix.block : std::max(perWord, ceilDivide(matrix.k, perWord) * perWord);
    const std::int64_t blocks = packed->blocks();
    const bool oneZero = matrix.zeroPoints.size() == 1;
    TCOMPRESS_CHECK(static_cast<std::int64_t>(matrix.scales.size()) == blocks * matrix.n &&
                        (oneZero || matrix.zeroPoints.size() == matrix.scales.size()),
                    "packCodes: one scale and zero point a block and column");
    const auto low = static_cast<float>(1 << (matrix.bits - 1));
    const std::int64_t groups = packed->groups();
    packed->words = AlignedBuffer<std::uint32_t>(packed->panels() * groups * kPanelColumns);
    packed->scales = AlignedBuffer<float>(packed->panels() * blocks * kPanelColumns);
    if (oneZero)
        packed->zero = matrix.zeroPoints[0] - low;
    else
        packed->zeros = AlignedBuffer<float>(packed->scales.size());
    parallelFor(packed->panels(), [&](std::int64_t index) {
        const std::int64_t first = index * kPanelColumns;
        const std::int64_t columns = std::min(kPanelColumns, matrix.n - first);
        std::uint32_t* words = packed->words.data() + index * groups * kPanelColumns;
        if (matrix.codes) {
            packPanel(matrix, first, columns, groups, words);
        } else {
            std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns * matrix.columnStride));
            matrix.unpack(first, columns, codes.data());
            CodedMatrix part = matrix;
            part.codes = codes.data();
            packPanel(part, 0, columns, groups, words);
        }
        const auto spread = [&](std::span<const float> source, float shift, AlignedBuffer<float>& target) {
            float* to = target.data() + index * blocks * kPanelColumns;
            std::fill(to, to + blocks * kPanelColumns, 0.0F);
            for (std::int64_t block = 0; block < blocks; ++block)
                for (std::int64_t column = 0; column < columns; ++column)
                    to[block * kPanelColumns + column] =
                        source[static_cast<std::size_t>(block * matrix.n + first + column)] - shift;
        };
        spread(matrix.scales, 0, packed->scales);
        if (!oneZero) spread(matrix.zeroPoints, low, packed->zeros);
    });
    return packed;
}

std::int64_t rows(const PackedCodes& weights) { return weights.k; }
std::int64_t columns(const PackedCodes& weights) { return weights.n; }
std::size_t sizeBytes(const PackedCodes& weights) {
    return static_cast<std::size_t>(weights.words.size() + weights.scales.size() + weights.zeros.size()) * 4;
}

}  // namespace tcompress::kernels
