#include "kernels/native/coded_panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/native/matmul_native.h"
#include "kernels/native/vector_math.h"

namespace tcompress::kernels {

namespace {

TCOMPRESS_MULTIVERSION void scaleRow(const float* sums, float unit, const float* before, float alpha,
                                     const float* bias, float* c, std::int64_t columns) {
#pragma GCC ivdep  // sums may be c
    for (std::int64_t i = 0; i < columns; ++i)
        c[i] = (sums[i] * unit + (before ? before[i] : 0.0F)) * alpha + (bias ? bias[i] : 0.0F);
}

/// c = (unit · sums + before) · alpha + bias. Row by row, so that C's lines and pages follow each other.
void scaleRows(const CodedMatmul& params, const PanelSums& sums, float alpha, const float* bias) {
    for (std::int64_t r = 0; r < sums.rows; ++r)
        for (std::int64_t i = 0; i < sums.columns; i += kPanelColumns) {
            const std::int64_t column = sums.firstColumn + i;
            float* c = params.c + (sums.firstRow + r) * params.cStride + column;
            scaleRow(sums.sums ? sums.sums + (i / kPanelColumns * sums.rows + r) * kPanelColumns : c,
                     sums.units ? sums.units[r * sums.unitStride] : 1.0F,
                     sums.before == PanelSums::Before::inC ? c : nullptr, alpha,
                     bias ? bias + column : nullptr, c, std::min(kPanelColumns, sums.columns - i));
        }
}

using Words = std::uint32_t __attribute__((vector_size(64)));
using Ints = std::int32_t __attribute__((vector_size(64)));
using Pairs = std::int16_t __attribute__((vector_size(64)));
using Bytes = std::uint8_t __attribute__((vector_size(64)));
constexpr std::int64_t kWords = 16;

TCOMPRESS_INLINE void store(std::uint32_t* target, Words value) { std::memcpy(target, &value, sizeof value); }

/// Codes from bit `slot` on of each byte, in 8 bits.
TCOMPRESS_INLINE Words bytesOf(const std::uint32_t* words, int bits, int slot) {
    Words codes;
    std::memcpy(&codes, words, sizeof codes);
    if (bits == 8) return codes;
    // x ^ sign − sign extends the sign of each byte's code.
    const Words mask = Words{} + 0x01010101U * ((1U << bits) - 1);
    const Words sign = Words{} + (0x01010101U << (bits - 1));
    return (Words)((Bytes)(((codes >> slot) & mask) ^ sign) - (Bytes)sign);
}

// `bytes` is null where the codes are bytes already.
TCOMPRESS_MULTIVERSION void widenSeparate(const std::uint32_t* words, std::int64_t groups, int bits,
                                          std::uint32_t* pairs, std::uint32_t* bytes) {
    for (std::int64_t group = 0; group < groups; ++group, words += kPanelColumns)
        for (int slot = 0; slot < 8; slot += bits, pairs += 2 * kPanelColumns)
            for (std::int64_t column = 0; column < kPanelColumns; column += kWords) {
                const Words codes = bytesOf(words + column, bits, slot);
                if (bytes) {
                    store(bytes, codes);
                    bytes += kWords;
                }
                store(pairs + column, (Words)((Pairs)codes << 8));
                store(pairs + kPanelColumns + column, codes & 0xff00ff00U);
            }
}

/// One segment.
TCOMPRESS_MULTIVERSION void widenCrossed(const std::uint32_t* words, std::int64_t groups, int bits,
                                         std::uint32_t* target) {
    std::uint32_t* const products = target;
    target += kPanelColumns;
    Words sums[kPanelColumns / kWords] = {};
    for (std::int64_t group = 0; group < groups; ++group, words += kPanelColumns)
        for (int slot = 0; slot < 8; slot += bits, target += 3 * kPanelColumns)
            for (std::int64_t column = 0; column < kPanelColumns; column += kWords) {
                const Words codes = bytesOf(words + column, bits, slot);
                const Pairs first = (Pairs)codes << 8 >> 8, second = (Pairs)codes >> 8;
                store(target + column, (Words)second);
                store(target + kPanelColumns + column, (Words)first);
                store(target + 2 * kPanelColumns + column, codes);
                const auto both = (Ints)(first * second);  // no more than 2^14 each
                sums[column / kWords] -= (Words)((both << 16 >> 16) + (both >> 16));
            }
    for (std::int64_t column = 0; column < kPanelColumns; column += kWords)
        store(products + column, sums[column / kWords]);
}

}  // namespace

CodedPanel codedPanel(const PackedCodes& weights, std::int64_t index, std::int64_t begin,
                      std::int64_t count) {
    const std::int64_t perWord = weights.codesPerWord();
    const std::int64_t place = begin / weights.block * kPanelColumns;
    const float* zeros = weights.panelZeros(index);
    CodedPanel panel;
    panel.words = weights.panel(index) + begin / perWord * kPanelColumns;
    panel.scales = weights.panelScales(index) + place;
    panel.zeros = zeros ? zeros + place : nullptr;
    panel.zero = weights.zero;
    panel.groups = ceilDivide(count, perWord);
    panel.groupsPerBlock = weights.block / perWord;
    panel.blocks = ceilDivide(panel.groups, panel.groupsPerBlock);
    panel.wordsToNext = weights.groups() * kPanelColumns;
    panel.scalesToNext = weights.blocks() * kPanelColumns;
    return panel;
}

std::int64_t partSizeOf(const PackedCodes& weights, std::int64_t wanted) {
    if (weights.block <= wanted) return wanted / weights.block * weights.block;
    return weights.blocks() == 1 || weights.block % wanted == 0 ? wanted : weights.block;
}

WidenedPanel widened(const CodedPanel& panel, int bits, CodePairs pairs, std::int64_t groupsPerSegment,
                     std::uint32_t* target) {
    const std::int64_t perWord = 8 / bits;  // digits' groups
    WidenedPanel wide{panel};
    wide.panel.groups *= perWord;
    wide.panel.groupsPerBlock *= perWord;
    if (pairs == CodePairs::separate) {
        std::uint32_t* const bytes = bits < 8 ? target + wide.panel.groups * 2 * kPanelColumns : nullptr;
        widenSeparate(panel.words, panel.groups, bits, target, bytes);
        if (bytes) wide.panel.words = bytes;
        wide.pairs = target;
        return wide;
    }
    wide.panel.words = target;
    for (std::int64_t group = 0, count = 0; group < panel.groups; group += count) {
        const std::int64_t blockEnd = (group / panel.groupsPerBlock + 1) * panel.groupsPerBlock;
        count = std::min({groupsPerSegment / perWord, blockEnd - group, panel.groups - group});
        widenCrossed(panel.words + group * kPanelColumns, count, bits, target);
        target += (1 + 3 * count * perWord) * kPanelColumns;
    }
    return wide;
}

void keepSums(const CodedMatmul& params, const PanelSums& sums) { scaleRows(params, sums, 1, nullptr); }

void finishSums(const CodedMatmul& params, const PanelSums& sums) {
    const Epilogue& epilogue = params.epilogue;
    scaleRows(params, sums, epilogue.alpha, epilogue.bias);
    const float* residual =
        epilogue.residual ? epilogue.residual + sums.firstRow * epilogue.residualStride + sums.firstColumn
                          : nullptr;
    if (epilogue.activation != Activation::none || residual)
        finishRows(epilogue.activation, params.c + sums.firstRow * params.cStride + sums.firstColumn,
                   params.cStride, residual, epilogue.residualStride, sums.rows, sums.columns);
}

}  // namespace tcompress::kernels
