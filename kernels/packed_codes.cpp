#include "kernels/packed_codes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "lib/support/check.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

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
        std::fill(words, words + groups * kPanelColumns, 0U);
        const std::uint32_t mask = (1U << matrix.bits) - 1;
        const std::uint32_t flip = 1U << (matrix.bits - 1);  // the same as − 2^(bits−1), in two's complement
        // The smaller stride innermost.
        const auto put = [&](std::int64_t k, std::int64_t column) {
            const std::uint32_t code =
                (matrix.codes[k * matrix.rowStride + (first + column) * matrix.columnStride] ^ flip) & mask;
            words[k / perWord * kPanelColumns + column] |=
                code << codePosition(matrix.bits, static_cast<int>(k % perWord));
        };
        if (matrix.columnStride == 1) {
            for (std::int64_t k = 0; k < matrix.k; ++k)
                for (std::int64_t column = 0; column < columns; ++column) put(k, column);
        } else {
            for (std::int64_t column = 0; column < columns; ++column)
                for (std::int64_t k = 0; k < matrix.k; ++k) put(k, column);
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
