#pragma once
// The inner loop of 8-bit matrix products: a few rows of A (uint8) times one panel of B (int8), exact 32-bit
// sums held in registers. A panel is kInt8PanelColumns columns of B, four values of k side by side for each:
// [ceil(K / 4)][kInt8PanelColumns][4], which is what a VNNI instruction multiplies and adds at once. One
// layout for every instruction set. Without VNNI the bytes are widened to 16 bits first: multiplying bytes
// into 16-bit sums, as pmaddubsw does, would saturate.

#include <cstdint>
#include <span>

namespace tcompress::kernels {

constexpr std::int64_t kInt8PanelColumns = 32;
/// Values of k that lie side by side.
constexpr std::int64_t kInt8Group = 4;
constexpr std::int64_t kInt8PanelBytesPerGroup = kInt8PanelColumns * kInt8Group;

/// sums[rows][kInt8PanelColumns] = A · panel.
struct Int8PanelTask {
    const std::uint8_t* a = nullptr;  // groups · 4 readable bytes a row
    std::int64_t aStride = 0;
    std::int64_t rows = 0;
    const std::int8_t* panel = nullptr;
    std::int64_t groups = 0;
    /// Distance in bytes to what is multiplied next and is not in the second-level cache yet, or 0: it is
    /// asked for on the way.
    std::int64_t prefetch = 0;
    std::int32_t* sums = nullptr;
    std::int64_t sumsStride = 0;
};

using Int8PanelKernel = void (*)(const Int8PanelTask&);

/// One instruction set's kernel; `supported` tells whether this processor can run it.
struct Int8PanelKernelRow {
    const char* name;
    bool supported;
    Int8PanelKernel run;
};
/// Best first; the last runs everywhere. For tests, which compare them all.
std::span<const Int8PanelKernelRow> int8PanelKernels();
/// The best that this processor can run.
Int8PanelKernel int8PanelKernel();

void multiplyInt8PanelAvx512Vnni(const Int8PanelTask& task);
void multiplyInt8PanelAvx512(const Int8PanelTask& task);
void multiplyInt8PanelAvxVnni(const Int8PanelTask& task);
void multiplyInt8PanelAvx2(const Int8PanelTask& task);
void multiplyInt8PanelBaseline(const Int8PanelTask& task);

}  // namespace tcompress::kernels
