#include "kernels/native/coded_panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/native/matmul_native.h"
#include "kernels/native/vector_math.h"

namespace tcompress::kernels {

namespace {

TCOMPRESS_MULTIVERSION void scaleRow(const float* sums, float unit, const float* before, float alpha,
                                     const float* bias, float* c, std::int64_t columns) {
    for (std::int64_t i = 0; i < columns; ++i)
        c[i] = (sums[i] * unit + (before ? before[i] : 0.0F)) * alpha + (bias ? bias[i] : 0.0F);
}

/// c = (unit · sums + before) · alpha + bias. Row by row, so that C's lines and pages follow each other.
void scaleRows(const CodedMatmul& params, const PanelSums& sums, float alpha, const float* bias) {
    for (std::int64_t r = 0; r < sums.rows; ++r)
        for (std::int64_t i = 0; i < sums.columns; i += kPanelColumns) {
            const std::int64_t column = sums.firstColumn + i;
            float* c = params.c + (sums.firstRow + r) * params.cStride + column;
            scaleRow(sums.sums + (i / kPanelColumns * sums.rows + r) * kPanelColumns,
                     sums.units ? sums.units[r * sums.unitStride] : 1.0F,
                     sums.before == PanelSums::Before::inC ? c : nullptr, alpha,
                     bias ? bias + column : nullptr, c, std::min(kPanelColumns, sums.columns - i));
        }
}

// `bytes` is null where the codes are bytes already.
TCOMPRESS_MULTIVERSION void widenWords(const std::uint32_t* words, std::int64_t groups, int bits,
                                       std::uint32_t* pairs, std::uint32_t* bytes) {
    using Words = std::uint32_t __attribute__((vector_size(64)));
    using Pairs = std::uint16_t __attribute__((vector_size(64)));
    using Bytes = std::uint8_t __attribute__((vector_size(64)));
    constexpr std::int64_t kWords = 16;
    const Words mask = Words{} + 0x01010101U * ((1U << bits) - 1);
    const Words sign = Words{} + (0x01010101U << (bits - 1));
    for (std::int64_t group = 0; group < groups; ++group, words += kPanelColumns)
        for (int slot = 0; slot < 8; slot += bits, pairs += 2 * kPanelColumns)
            for (std::int64_t column = 0; column < kPanelColumns; column += kWords) {
                Words codes;
                std::memcpy(&codes, words + column, sizeof codes);
                if (bytes) {
                    // x ^ sign − sign extends the sign of each byte's code.
                    codes = (Words)((Bytes)(((codes >> slot) & mask) ^ sign) - (Bytes)sign);
                    std::memcpy(bytes, &codes, sizeof codes);
                    bytes += kWords;
                }
                const Words even = (Words)((Pairs)codes << 8);
                const Words odd = codes & 0xff00ff00U;
                std::memcpy(pairs + column, &even, sizeof even);
                std::memcpy(pairs + kPanelColumns + column, &odd, sizeof odd);
            }
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

WidenedPanel widened(const CodedPanel& panel, int bits, std::uint32_t* target) {
    const std::int64_t groups = panel.groups * 8 / bits;
    std::uint32_t* const bytes = bits < 8 ? target + groups * 2 * kPanelColumns : nullptr;
    widenWords(panel.words, panel.groups, bits, target, bytes);
    WidenedPanel wide{panel, target};
    if (bytes) wide.panel.words = bytes;
    wide.panel.groups = groups;
    wide.panel.groupsPerBlock *= 8 / bits;
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
