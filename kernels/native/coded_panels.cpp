#include "kernels/native/coded_panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/native/matmul_native.h"
#include "kernels/native/vector_math.h"

namespace tcompress::kernels {

namespace {

TCOMPRESS_MULTIVERSION void scaleRow(const float* sums, float alpha, const float* bias, float* c,
                                     std::int64_t columns) {
    for (std::int64_t i = 0; i < columns; ++i) c[i] = sums[i] * alpha + (bias ? bias[i] : 0.0F);
}

TCOMPRESS_MULTIVERSION void widenWords(const std::uint32_t* words, std::int64_t groups, int bits,
                                       std::int64_t ahead, std::uint32_t* widened) {
    using Words = std::uint32_t __attribute__((vector_size(64)));
    using Pairs = std::int16_t __attribute__((vector_size(64)));
    using Bytes = std::int8_t __attribute__((vector_size(64)));
    constexpr std::int64_t kWords = 16;
    const Words mask = Words{} + 0x01010101U * ((1U << bits) - 1);
    const Words sign = Words{} + (0x01010101U << (bits - 1));
    for (std::int64_t group = 0; group < groups; ++group, words += kPanelColumns)
        for (int slot = 0; slot < 8; slot += bits, widened += kWidenedWords)
            for (std::int64_t column = 0; column < kPanelColumns; column += kWords) {
                Words stored;
                std::memcpy(&stored, words + column, sizeof stored);
                __builtin_prefetch(words + column + ahead, 0, 2);
                // x ^ sign − sign extends the sign of each byte's code.
                const Bytes codes = (Bytes)(((stored >> slot) & mask) ^ sign) - (Bytes)sign;
                const Pairs even = (Pairs)((Pairs)codes << 8) >> 8;
                const Pairs odd = (Pairs)codes >> 8;
                std::memcpy(widened + column, &even, sizeof even);
                std::memcpy(widened + kPanelColumns + column, &odd, sizeof odd);
                std::memcpy(widened + 2 * kPanelColumns + column, &codes, sizeof codes);
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

CodedPanel widened(CodedPanel panel, int bits, std::uint32_t* target) {
    // The next panel is asked for: it comes while this one is multiplied.
    widenWords(panel.words, panel.groups, bits, panel.wordsToNext, target);
    panel.words = target;
    panel.groups *= 8 / bits;
    panel.groupsPerBlock *= 8 / bits;
    return panel;
}

void finishPanel(const CodedMatmul& params, std::int64_t row, std::int64_t rows, std::int64_t column,
                 const float* sums) {
    const Epilogue& epilogue = params.epilogue;
    const std::int64_t columns = std::min(kPanelColumns, params.weights->n - column);
    float* c = params.c + row * params.cStride + column;
    const float* bias = epilogue.bias ? epilogue.bias + column : nullptr;
    for (std::int64_t r = 0; r < rows; ++r)
        scaleRow(sums + r * kPanelColumns, epilogue.alpha, bias, c + r * params.cStride, columns);
    const float* residual =
        epilogue.residual ? epilogue.residual + row * epilogue.residualStride + column : nullptr;
    if (epilogue.activation != Activation::none || residual)
        finishRows(epilogue.activation, c, params.cStride, residual, epilogue.residualStride, rows, columns);
}

}  // namespace tcompress::kernels
