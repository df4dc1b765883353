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
/// Bytes of codes that are read before the reader's owner is told.
constexpr std::int64_t kReadAtOnce = 1 << 20;

/// Four neighbouring k of each column as one 32-bit number, the first k lowest.
using Fours = std::uint32_t[kGathered / 4][kPanelColumns];

TCOMPRESS_MULTIVERSION void unpackNibbles(const std::uint8_t* packed, std::int64_t bytes,
                                          std::uint8_t* codes) {
    for (std::int64_t i = 0; i < bytes; ++i) {
        codes[2 * i] = packed[i] & 15;
        codes[2 * i + 1] = packed[i] >> 4;
    }
}

/// `count` codes from number `index` on, one a byte.
void unpack(const CodedMatrix& matrix, std::int64_t index, std::int64_t count, std::uint8_t* codes) {
    const auto* stored = reinterpret_cast<const std::uint8_t*>(matrix.codes);
    if (matrix.storedBits == 8) {
        std::memcpy(codes, stored + index, static_cast<std::size_t>(count));
        return;
    }
    std::int64_t i = 0;
    if (matrix.storedBits == 4 && index % 2 == 0) {
        unpackNibbles(stored + index / 2, count / 2, codes);
        i = count / 2 * 2;
    }
    for (; i < count; ++i) {
        const std::int64_t bit = (index + i) * matrix.storedBits;
        codes[i] = static_cast<std::uint8_t>(stored[bit / 8] >> bit % 8 & ((1 << matrix.storedBits) - 1));
    }
}

TCOMPRESS_MULTIVERSION void fourRows(const std::uint8_t* rows, std::uint32_t* target) {
    for (std::int64_t column = 0; column < kPanelColumns; ++column)
        target[column] = rows[column] | static_cast<std::uint32_t>(rows[kPanelColumns + column]) << 8 |
                         static_cast<std::uint32_t>(rows[2 * kPanelColumns + column]) << 16 |
                         static_cast<std::uint32_t>(rows[3 * kPanelColumns + column]) << 24;
}

/// kGathered values of k from k on, of `columns` columns; beyond K, and beyond the columns, zeros.
void gather(const CodedMatrix& matrix, std::int64_t k, std::int64_t first, std::int64_t columns,
            Fours& fours) {
    const std::int64_t index = k * matrix.rowStride + first * matrix.columnStride;
    const std::int64_t count = std::min(kGathered, matrix.k - k);
    if (matrix.columnStride == 1) {
        std::uint8_t rows[kGathered * kPanelColumns] = {};
        for (std::int64_t i = 0; i < count; ++i)
            unpack(matrix, index + i * matrix.rowStride, columns, rows + i * kPanelColumns);
        for (std::int64_t i = 0; i < kGathered / 4; ++i) fourRows(rows + 4 * i * kPanelColumns, fours[i]);
        return;
    }
    std::memset(fours, 0, sizeof fours);
    for (std::int64_t column = 0; column < columns; ++column) {
        std::uint8_t codes[kGathered] = {};
        unpack(matrix, index + column * matrix.columnStride, count, codes);
        std::uint32_t line[kGathered / 4];
        std::memcpy(line, codes, sizeof line);
        for (std::int64_t i = 0; i < kGathered / 4; ++i) fours[i][column] = line[i];
    }
}

/// The words of panel `index` that hold k in [begin, end); begin is a multiple of kGathered.
void packPart(const CodedMatrix& matrix, PackedCodes& packed, std::int64_t index, std::int64_t begin,
              std::int64_t end) {
    const std::int64_t first = index * kPanelColumns;
    const std::int64_t columns = std::min(kPanelColumns, matrix.n - first);
    const std::int64_t slots = 8 / matrix.bits;
    // Flips the highest bit of every code: the same as − 2^(bits−1), in two's complement.
    std::uint32_t flip = 0;
    if (matrix.stored == StoredCodes::plain)
        for (int bit = matrix.bits - 1; bit < 32; bit += matrix.bits) flip |= 1U << bit;
    Fours fours;
    for (std::int64_t k = begin; k < end; k += kGathered) {
        gather(matrix, k, first, columns, fours);
        const std::int64_t group = k / packed.codesPerWord();
        const std::int64_t groups = std::min(kGathered / packed.codesPerWord(), packed.groups() - group);
        std::uint32_t* words = packed.words.data() + (index * packed.groups() + group) * kPanelColumns;
        for (std::int64_t i = 0; i < groups; ++i, words += kPanelColumns)
            for (std::int64_t column = 0; column < kPanelColumns; ++column) {
                std::uint32_t word = flip;
                for (std::int64_t slot = 0; slot < slots; ++slot)
                    word ^= fours[i * slots + slot][column] << (slot * matrix.bits);
                words[column] = word;
            }
    }
}

/// All words, in the order in which the codes lie in memory.
void packWords(const CodedMatrix& matrix, PackedCodes& packed) {
    const bool byRows = matrix.columnStride == 1;
    const std::int64_t length = byRows ? matrix.k : packed.panels();
    const std::int64_t stride = byRows ? matrix.rowStride : kPanelColumns * matrix.columnStride;
    const auto bytesBefore = [&](std::int64_t i) { return i * stride * matrix.storedBits / 8; };
    const std::int64_t unit = byRows ? kGathered : 1;
    const std::int64_t part =
        std::max<std::int64_t>(1, kReadAtOnce / std::max<std::int64_t>(1, bytesBefore(unit))) * unit;
    for (std::int64_t begin = 0; begin < length; begin += part) {
        const std::int64_t end = std::min(length, begin + part);
        if (byRows)
            parallelFor(packed.panels(),
                        [&](std::int64_t index) { packPart(matrix, packed, index, begin, end); });
        else
            parallelFor(end - begin,
                        [&](std::int64_t i) { packPart(matrix, packed, begin + i, 0, matrix.k); });
        if (matrix.consumed && end < length)
            matrix.consumed({matrix.codes + bytesBefore(begin), matrix.codes + bytesBefore(end)});
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
    const auto needed = static_cast<std::size_t>((blocks - 1) * matrix.scaleBlockStride +
                                                 (matrix.n - 1) * matrix.scaleColumnStride + 1);
    TCOMPRESS_CHECK(matrix.scales.size() >= needed && (oneZero || matrix.zeroPoints.size() >= needed),
                    "packCodes: one scale and zero point a block and column");
    const auto low = static_cast<float>(1 << (matrix.bits - 1));
    packed->words = AlignedBuffer<std::uint32_t>(packed->panels() * packed->groups() * kPanelColumns);
    packed->scales = AlignedBuffer<float>(packed->panels() * blocks * kPanelColumns);
    if (oneZero)
        packed->zero = matrix.zeroPoints[0] - low;
    else
        packed->zeros = AlignedBuffer<float>(packed->scales.size());
    packWords(matrix, *packed);
    parallelFor(packed->panels(), [&](std::int64_t index) {
        const std::int64_t first = index * kPanelColumns;
        const std::int64_t columns = std::min(kPanelColumns, matrix.n - first);
        const auto spread = [&](std::span<const float> source, float shift, AlignedBuffer<float>& target) {
            float* to = target.data() + index * blocks * kPanelColumns;
            std::fill(to, to + blocks * kPanelColumns, 0.0F);
            for (std::int64_t block = 0; block < blocks; ++block)
                for (std::int64_t column = 0; column < columns; ++column)
                    to[block * kPanelColumns + column] =
                        source[static_cast<std::size_t>(block * matrix.scaleBlockStride +
                                                        (first + column) * matrix.scaleColumnStride)] -
                        shift;
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
