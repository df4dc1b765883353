#pragma once
// The inner loops of products with coded weights (packed_codes.h), one table of them an instruction set. Two
// arithmetics: codes become float32 and are multiplied as such, or A becomes three 8-bit digits
// (native/digits.h), whose products with codes are exact integer sums. Few rows decode in registers, many
// rows share a part of a panel that is decoded into the cache. Codes of a block are multiplied as they are;
// the scale and the zero point follow once a block: Σ x·(code − zero)·scale = scale · (Σ x·code − zero · Σ
// x), with digits' numbers for x likewise.

#include "kernels/packed_codes.h"

namespace tcompress::kernels {

/// One panel, or whole blocks of it, or a part of one block.
struct CodedPanel {
    const std::uint32_t* words = nullptr;
    const float* scales = nullptr;
    const float* zeros = nullptr;  // null: all are `zero`
    float zero = 0;
    std::int64_t groups = 0, groupsPerBlock = 0, blocks = 0;  // groups: words of a column
    std::int64_t wordsToNext = 0, scalesToNext = 0;           // distances to the next panel's
};

struct CodedPanelTask {
    static constexpr std::int64_t kMostRows = 4;

    CodedPanel panel;
    const float* a = nullptr;  // whole groups of k readable
    std::int64_t aStride = 0;
    std::int64_t rows = 0;             // ≤ kMostRows
    const float* blockSums = nullptr;  // Σ of A's rows over each block: [row][block]
    float* c = nullptr;                // [rows][kPanelColumns], dense
};

/// target[k][kPanelColumns] = (code − zero) · scale.
struct DecodeTask {
    CodedPanel panel;
    float* target = nullptr;
};

/// Rows of A as digits (native/digits.h) from the panel's first k on: c += numbers · panel, all k of one
/// stretch.
struct DigitPanelTask {
    CodedPanel panel;
    const std::uint32_t* pairs = nullptr;  // of the panel's codes, where they are separate
    const std::int8_t* digits = nullptr;   // of the first row and k
    std::int64_t stripRows = 1;            // rows whose groups lie side by side
    std::int64_t stripBytes = 0;           // between one strip and the next
    const std::int32_t* sums = nullptr;    // of the numbers of each segment, [row][segment]
    const std::int32_t* products = nullptr;  // DigitRows::products, for crossed pairs
    std::int64_t segments = 0;             // of a row of A, all its parts
    std::int64_t groupsPerSegment = 0;
    std::int64_t rows = 0;
    std::int64_t panels = 1;              // one after the other
    float* c = nullptr;                   // [panels][rows][kPanelColumns]
    std::int64_t cStride = kPanelColumns;  // between rows, for two digits
    const std::uint32_t* next = nullptr;  // what the next task reads from memory
    std::int64_t nextWords = 0;
};

/// How codes are widened for two digits, groups of four k of kPanelColumns columns.
/// separate: two lines of pairs of 16 bits, codes · 256 of the first and third k and of the second and fourth,
/// which d₁ is multiplied by in two instructions; the four codes in 8 bits lie elsewhere.
/// crossed: a line with the codes of the second and fourth k, to be added to the d₁ of the first and third, one
/// with those of the first and third for the d₁ of the second and fourth. The product of both sums,
///   (d₁ + c′) · (d₁′ + c) = d₁ · c + d₁′ · c′ + d₁ · d₁′ + c · c′
/// (S. Winograd, "A New Algorithm for Inner Product", IEEE Trans. Comput. C-17, 1968), takes one multiplication
/// and two additions, which other pipes may do meanwhile; what of it is not wanted depends on the row or on the
/// column alone. The sums fit 16 bits: |d₁| ≤ 32512, |c| ≤ 128. A third line has the codes in 8 bits, and before
/// the groups of each segment lies a line of its −Σ c · c′.
enum class CodePairs { separate, crossed };
/// Of a group, at most.
constexpr std::int64_t kWidenedWords = 4 * kPanelColumns;

struct CodedKernels {
    void (*multiply[3])(const CodedPanelTask&);  // for 2, 4 and 8 bits
    void (*decode[3])(const DecodeTask&);
    // Null without VNNI:
    void (*addThreeDigits[3])(const DigitPanelTask&);  // strips of one row
    void (*addTwoDigits)(const DigitPanelTask&);       // one panel of widened codes
    std::int64_t stripRows = 0;                        // that go on at once in registers there
    CodePairs pairs = CodePairs::separate;             // that it takes
};
/// Of the best instruction set of this processor.
const CodedKernels& codedKernels();
const CodedKernels& codedKernelsAvx512Vnni();
const CodedKernels& codedKernelsAvx512VnniCrossed();
const CodedKernels& codedKernelsAvx512();
const CodedKernels& codedKernelsAvxVnni();
const CodedKernels& codedKernelsAvx2();
const CodedKernels& codedKernelsBaseline();
constexpr int codedKernelIndex(int bits) { return bits == 2 ? 0 : bits == 4 ? 1 : 2; }

}  // namespace tcompress::kernels
