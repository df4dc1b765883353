#include "kernels/packed_codes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "kernels/multiversion.h"
#include "kernels/native/transpose_matrix.h"
#include "lib/support/check.h"
#include "lib/support/mapped_file.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// k that are gathered at a time: a cache line of a column whose codes are neighbours.
constexpr std::int64_t kGathered = 64;
/// Columns of which rows are unpacked at a time: 32 KiB with kGathered of them.
constexpr std::int64_t kUnpackedColumns = 16 * kPanelColumns;

/// Four neighbouring k of each column as one 32-bit number, the first k lowest.
using Fours = std::uint32_t[kGathered / 4][kPanelColumns];

TCOMPRESS_MULTIVERSION void unpackNibbles(const std::uint8_t* packed, std::int64_t bytes,
                                          std::uint8_t* codes) {
    for (std::int64_t i = 0; i < bytes; ++i) {
        codes[2 * i] = packed[i] & 15;
        codes[2 * i + 1] = packed[i] >> 4;
    }
}

/// Neighbouring codes as they are stored.
class StoredRange {
  public:
    /// `count` codes from number `first` on: read from the file where they lie in one that is mapped.
    StoredRange(const CodedMatrix& matrix, std::int64_t first, std::int64_t count)
        : bits_(matrix.storedBits) {
        const std::int64_t begin = first * bits_ / 8, end = ceilDivide((first + count) * bits_, 8);
        const std::span<const std::byte> range{matrix.codes + begin, matrix.codes + end};
        auto* buffer = threadScratch<StoredRange, std::byte>(end - begin);
        const std::byte* bytes = readIfMapped(range, buffer) ? buffer : range.data();
        bytes_ = reinterpret_cast<const std::uint8_t*>(bytes);
        firstBit_ = begin * 8;
    }

    /// `count` codes from number `index` of the matrix on, one a byte.
    void unpack(std::int64_t index, std::int64_t count, std::uint8_t* codes) const {
        const std::int64_t bit = index * bits_ - firstBit_;
        if (bits_ == 8) {
            // A line at once, without a call, as a rule.
            if (count == kGathered)
                std::memcpy(codes, bytes_ + bit / 8, kGathered);
            else
                std::memcpy(codes, bytes_ + bit / 8, static_cast<std::size_t>(count));
            return;
        }
        std::int64_t i = 0;
        if (bits_ == 4 && bit % 8 == 0) {
            unpackNibbles(bytes_ + bit / 8, count / 2, codes);
            i = count / 2 * 2;
        }
        for (; i < count; ++i) {
            const std::int64_t at = bit + i * bits_;
            codes[i] = static_cast<std::uint8_t>(bytes_[at / 8] >> at % 8 & ((1 << bits_) - 1));
        }
    }

  private:
    int bits_;
    const std::uint8_t* bytes_;
    std::int64_t firstBit_;
};

/// Rows lie `stride` apart.
TCOMPRESS_MULTIVERSION void fourRows(const std::uint8_t* rows, std::int64_t stride, std::uint32_t* target) {
    for (std::int64_t column = 0; column < kPanelColumns; ++column)
        target[column] = rows[column] | static_cast<std::uint32_t>(rows[stride + column]) << 8 |
                         static_cast<std::uint32_t>(rows[2 * stride + column]) << 16 |
                         static_cast<std::uint32_t>(rows[3 * stride + column]) << 24;
}

/// `groups` of words, each of the codes of 8 / kBits fours.
template <int kBits>
TCOMPRESS_INLINE void joinFours(const Fours& fours, std::int64_t groups, std::uint32_t flip,
                                std::uint32_t* words) {
    constexpr std::int64_t kSlots = 8 / kBits;
    for (std::int64_t i = 0; i < groups; ++i, words += kPanelColumns)
        for (std::int64_t column = 0; column < kPanelColumns; ++column) {
            std::uint32_t word = flip;
            for (std::int64_t slot = 0; slot < kSlots; ++slot)
                word ^= fours[i * kSlots + slot][column] << (slot * kBits);
            words[column] = word;
        }
}

TCOMPRESS_MULTIVERSION void joinFours(const Fours& fours, std::int64_t groups, int bits, std::uint32_t flip,
                                      std::uint32_t* words) {
    if (bits == 8) joinFours<8>(fours, groups, flip, words);
    if (bits == 4) joinFours<4>(fours, groups, flip, words);
    if (bits == 2) joinFours<2>(fours, groups, flip, words);
}

/// The words of panel `index` for kGathered values of k from k on.
void writeWords(const CodedMatrix& matrix, PackedCodes& packed, std::int64_t index, std::int64_t k,
                const Fours& fours) {
    // Flips the highest bit of every code: the same as − 2^(bits−1), in two's complement.
    std::uint32_t flip = 0;
    if (matrix.stored == StoredCodes::plain)
        for (int bit = matrix.bits - 1; bit < 32; bit += matrix.bits) flip |= 1U << bit;
    const std::int64_t group = k / packed.codesPerWord();
    const std::int64_t groups = std::min(kGathered / packed.codesPerWord(), packed.groups() - group);
    joinFours(fours, groups, matrix.bits, flip,
              packed.words.data() + (index * packed.groups() + group) * kPanelColumns);
}

/// kGathered rows from k on, a multiple of kGathered, of a matrix whose rows lie together: read as they lie,
/// for all panels. Beyond K, and beyond the columns, codes are zeros.
void packRows(const CodedMatrix& matrix, PackedCodes& packed, std::int64_t k) {
    const std::int64_t count = std::min(kGathered, matrix.k - k);
    const StoredRange stored(matrix, k * matrix.rowStride, (count - 1) * matrix.rowStride + matrix.n);
    for (std::int64_t first = 0; first < matrix.n; first += kUnpackedColumns) {
        const std::int64_t columns = std::min(kUnpackedColumns, matrix.n - first);
        std::uint8_t rows[kGathered * kUnpackedColumns];
        if (count < kGathered || columns % kPanelColumns != 0) std::memset(rows, 0, sizeof rows);
        for (std::int64_t i = 0; i < count; ++i)
            stored.unpack((k + i) * matrix.rowStride + first, columns, rows + i * kUnpackedColumns);
        for (std::int64_t column = 0; column < columns; column += kPanelColumns) {
            Fours fours;
            for (std::int64_t i = 0; i < kGathered / 4; ++i)
                fourRows(rows + 4 * i * kUnpackedColumns + column, kUnpackedColumns, fours[i]);
            writeWords(matrix, packed, (first + column) / kPanelColumns, k, fours);
        }
    }
}

/// Panel `index` of a matrix whose columns lie together.
void packPanel(const CodedMatrix& matrix, PackedCodes& packed, std::int64_t index) {
    const std::int64_t first = index * kPanelColumns;
    const std::int64_t columns = std::min(kPanelColumns, matrix.n - first);
    const StoredRange stored(matrix, first * matrix.columnStride,
                             (columns - 1) * matrix.columnStride + matrix.k);
    for (std::int64_t k = 0; k < matrix.k; k += kGathered) {
        const std::int64_t count = std::min(kGathered, matrix.k - k);
        std::uint32_t lines[kPanelColumns][kGathered / 4];
        if (count < kGathered || columns < kPanelColumns) std::memset(lines, 0, sizeof lines);
        for (std::int64_t column = 0; column < columns; ++column)
            stored.unpack(k + (first + column) * matrix.columnStride, count,
                          reinterpret_cast<std::uint8_t*>(lines[column]));
        Fours fours;
        transposeMatrix(lines[0], kGathered / 4, kPanelColumns, kGathered / 4, fours[0], kPanelColumns);
        writeWords(matrix, packed, index, k, fours);
    }
}

/// All words; codes are read in the order in which they lie in memory.
void packWords(const CodedMatrix& matrix, PackedCodes& packed) {
    if (matrix.columnStride == 1)
        parallelFor(ceilDivide(matrix.k, kGathered),
                    [&](std::int64_t i) { packRows(matrix, packed, i * kGathered); });
    else
        parallelFor(packed.panels(), [&](std::int64_t index) { packPanel(matrix, packed, index); });
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
            if (columns < kPanelColumns) std::fill(to, to + blocks * kPanelColumns, 0.0F);
            const float* from = source.data() + first * matrix.scaleColumnStride;
            if (matrix.scaleBlockStride == 1 && matrix.scaleColumnStride > 0)
                transposeMatrix(from, matrix.scaleColumnStride, columns, blocks, to, kPanelColumns);
            else
                for (std::int64_t block = 0; block < blocks; ++block)
                    for (std::int64_t column = 0; column < columns; ++column)
                        to[block * kPanelColumns + column] =
                            from[block * matrix.scaleBlockStride + column * matrix.scaleColumnStride];
            if (shift == 0) return;
            for (std::int64_t block = 0; block < blocks; ++block)
                for (std::int64_t column = 0; column < columns; ++column)
                    to[block * kPanelColumns + column] -= shift;
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
