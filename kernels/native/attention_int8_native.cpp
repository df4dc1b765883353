// Keys and values of a head become panels of the 8-bit matrix product; twelve queries at a time go through
// both products with the softmax between them in the first-level cache.

#include "kernels/native/attention_int8_native.h"

#include <algorithm>
#include <cstring>

#include "kernels/aligned_buffer.h"
#include "kernels/native/int8_kernel.h"
#include "kernels/native/vector_code.h"
#include "kernels/tiles.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

constexpr std::int64_t kStripRows = 12;

struct Panels;
struct Columns;
struct Strip;
struct Floats;

/// The left side of a product is uint8, the right side int8: codes of the other type are moved by 128, which
/// is an exclusive or, and so are their zero points.
std::uint8_t flipToUnsigned(const Int8Code& code) { return code.type == DType::int8 ? 0x80 : 0; }
std::int32_t unsignedZero(const Int8Code& code) {
    return code.zeroPoint + (code.type == DType::int8 ? 128 : 0);
}
std::uint8_t flipToSigned(const Int8Code& code) { return code.type == DType::uint8 ? 0x80 : 0; }
std::int32_t signedZero(const Int8Code& code) {
    return code.zeroPoint - (code.type == DType::uint8 ? 128 : 0);
}

/// An 8-bit right side of a product in panels, with what its zero points need.
struct RightSide {
    std::int64_t k = 0, n = 0;
    const std::int8_t* panels = nullptr;
    const std::int32_t* offsets = nullptr;  // zero point of the left · Σ_k (b − zero point), one a column
    std::int32_t zeroPoint = 0;

    std::int64_t groups() const { return ceilDivide(k, kInt8Group); }
    std::int64_t paddedColumns() const { return ceilDivide(n, kInt8PanelColumns) * kInt8PanelColumns; }
    std::int64_t panelBytes() const { return groups() * kInt8PanelBytesPerGroup; }
    std::int64_t bytes() const { return paddedColumns() * groups() * kInt8Group; }
};

/// Element (k, n) at source[k · kStride + n · nStride]; one of the strides is 1.
TCOMPRESS_MULTIVERSION void fillPanels(const std::uint8_t* source, std::int64_t k, std::int64_t n,
                                       std::int64_t kStride, std::int64_t nStride, std::uint8_t flip,
                                       std::int64_t panelBytes, std::uint8_t* panels, std::int32_t* sums) {
    for (std::int64_t column = 0; column < n; ++column) {
        std::uint8_t* target =
            panels + column / kInt8PanelColumns * panelBytes + column % kInt8PanelColumns * kInt8Group;
        const std::uint8_t* from = source + column * nStride;
        std::int32_t sum = 0;
        for (std::int64_t i = 0; i < k; ++i) {
            const std::uint8_t byte = from[i * kStride] ^ flip;
            target[i / kInt8Group * kInt8PanelBytesPerGroup + i % kInt8Group] = byte;
            sum += static_cast<std::int8_t>(byte);
        }
        sums[column] = sum;
    }
}

/// Panels and offsets into memory of the caller.
void fillRightSide(RightSide& side, const void* source, std::int64_t kStride, std::int64_t nStride,
                   const Int8Code& code, std::int32_t leftZero, std::uint8_t* panels, std::int32_t* offsets) {
    std::memset(panels, 0, static_cast<std::size_t>(side.bytes()));
    std::fill(offsets, offsets + side.paddedColumns(), 0);
    fillPanels(static_cast<const std::uint8_t*>(source), side.k, side.n, kStride, nStride, flipToSigned(code),
               side.panelBytes(), panels, offsets);
    side.zeroPoint = signedZero(code);
    for (std::int64_t column = 0; column < side.n; ++column)
        offsets[column] = leftZero * (offsets[column] - static_cast<std::int32_t>(side.k) * side.zeroPoint);
    side.panels = reinterpret_cast<const std::int8_t*>(panels);
    side.offsets = offsets;
}

void multiply(const RightSide& side, const std::uint8_t* left, std::int64_t rows, std::int32_t* sums) {
    Int8PanelTask task;
    task.a = left;
    task.aStride = side.groups() * kInt8Group;
    task.rows = rows;
    task.groups = side.groups();
    task.sumsStride = side.paddedColumns();
    const Int8PanelKernel kernel = int8PanelKernel();
    for (std::int64_t column = 0; column < side.n; column += kInt8PanelColumns) {
        task.panel = side.panels + column / kInt8PanelColumns * side.panelBytes();
        task.sums = sums + column;
        kernel(task);
    }
}

TCOMPRESS_MULTIVERSION std::int32_t sumOfRow(const std::uint8_t* row, std::int64_t count) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += row[i];
    return sum;
}

/// Codes of the steps, spread over the lanes once per call.
struct Steps {
    VectorCode product, scaled, masked, probability, out;
};

/// (sum − zero points) · scale of 16 columns. Rows of sums and offsets are padded to whole vectors.
TCOMPRESS_INLINE FloatVector realVector(const std::int32_t* sums, const std::int32_t* offsets,
                                        std::int32_t rowTerm, float scale) {
    IntVector sum, offset;
    std::memcpy(&sum, sums, sizeof sum);
    std::memcpy(&offset, offsets, sizeof offset);
    return __builtin_convertvector(sum - offset - rowTerm, FloatVector) * scale;
}

struct ScoreRow {
    const std::int32_t* sums;
    const std::int32_t* offsets;
    std::int32_t rowTerm;  // zero point of the keys · sum of the query
    std::int64_t count;
    float unit, scale;
    const float* mask;
    std::int64_t maskStride;
    float* work;  // padded to whole vectors
    std::uint8_t* codes;
};

/// From the sums of one query with all keys to the codes of its probabilities.
TCOMPRESS_MULTIVERSION void probabilities(const Int8Attention& params, const Steps& steps,
                                          const ScoreRow& row) {
    const float infinity = __builtin_inff();
    FloatVector largest = broadcastVector(-infinity);
    for (std::int64_t i = 0; i < row.count; i += kLanes) {
        FloatVector value = realVector(row.sums + i, row.offsets + i, row.rowTerm, row.unit);
        if (params.productCode) value = roundToCode(value, steps.product);
        value *= row.scale;
        if (params.scaledCode) value = roundToCode(value, steps.scaled);
        const std::int64_t left = row.count - i;
        if (row.mask) {
            FloatVector mask{};
            if (row.maskStride == 1)
                mask = left >= kLanes ? loadVector(row.mask + i) : loadPart(row.mask + i, left);
            else
                mask = broadcastVector(*row.mask);
            value += mask;
        }
        if (params.maskedCode) value = roundToCode(value, steps.masked);
        if (left < kLanes)
            for (std::int64_t lane = left; lane < kLanes; ++lane) value[lane] = -infinity;
        largest = value > largest ? value : largest;
        storeVector(row.work + i, value);
    }
    const FloatVector top = broadcastVector(maxLanes(largest));
    FloatVector sum{};
    for (std::int64_t i = 0; i < row.count; i += kLanes) {
        const FloatVector e = expNonPositive(loadVector(row.work + i) - top);
        sum += e;
        storeVector(row.work + i, e);
    }
    const FloatVector inverse = broadcastVector(1.0F / sumLanes(sum));
    for (std::int64_t i = 0; i < row.count; i += kLanes)
        storeCodes(row.codes + i, loadVector(row.work + i) * inverse, steps.probability,
                   std::min<std::int64_t>(kLanes, row.count - i));
}

TCOMPRESS_MULTIVERSION void finishOut(const Int8Attention& params, const Steps& steps,
                                      const std::int32_t* sums, const std::int32_t* offsets,
                                      std::int32_t rowTerm, float unit, std::int64_t count, std::byte* out) {
    for (std::int64_t i = 0; i < count; i += kLanes) {
        const FloatVector value = realVector(sums + i, offsets + i, rowTerm, unit);
        const std::int64_t part = std::min<std::int64_t>(kLanes, count - i);
        if (params.outCode)
            storeCodes(reinterpret_cast<std::uint8_t*>(out) + i, value, steps.out, part);
        else
            std::memcpy(reinterpret_cast<float*>(out) + i, &value,
                        static_cast<std::size_t>(part) * sizeof(float));
    }
}

/// Queries [first, first + rows) of one head.
struct StripTask {
    std::int64_t batch, head, first, rows;
};

void runStrip(const Int8Attention& params, const Steps& steps, const RightSide& keys, const RightSide& values,
              const StripTask& strip) {
    const std::int64_t queryBytes = keys.groups() * kInt8Group;
    const std::int64_t codeBytes = values.groups() * kInt8Group;
    auto* bytes = threadScratch<Strip, std::uint8_t>(kStripRows * (queryBytes + codeBytes));
    std::uint8_t* queries = bytes;
    std::uint8_t* codes = bytes + kStripRows * queryBytes;
    const std::int64_t width = std::max(keys.paddedColumns(), values.paddedColumns());
    auto* words = threadScratch<Floats, std::int32_t>((kStripRows + 1) * width);
    auto* work = reinterpret_cast<float*>(words + kStripRows * width);
    const std::uint8_t flip = flipToUnsigned(params.qCode);
    const auto* q = static_cast<const std::uint8_t*>(params.q) + strip.batch * params.qStrides.batch +
                    strip.head * params.qStrides.head;
    std::memset(bytes, 0, static_cast<std::size_t>(kStripRows * (queryBytes + codeBytes)));
    for (std::int64_t r = 0; r < strip.rows; ++r)
        for (std::int64_t i = 0; i < params.headSize; ++i)
            queries[r * queryBytes + i] = q[(strip.first + r) * params.qStrides.row + i] ^ flip;
    multiply(keys, queries, strip.rows, words);

    ScoreRow row{};
    row.offsets = keys.offsets;
    row.count = params.keyLength;
    row.unit = params.qCode.scale * params.kCode.scale;
    row.scale = params.scale;
    row.maskStride = params.maskColumnStride;
    row.work = work;
    for (std::int64_t r = 0; r < strip.rows; ++r) {
        row.sums = words + r * keys.paddedColumns();
        row.rowTerm =
            keys.zeroPoint == 0 ? 0 : keys.zeroPoint * sumOfRow(queries + r * queryBytes, params.headSize);
        if (params.mask)
            row.mask = params.mask + strip.batch * params.maskStrides.batch +
                       strip.head * params.maskStrides.head + (strip.first + r) * params.maskStrides.row;
        row.codes = codes + r * codeBytes;
        probabilities(params, steps, row);
    }
    multiply(values, codes, strip.rows, words);
    const std::int64_t elementBytes = params.outCode ? 1 : static_cast<std::int64_t>(sizeof(float));
    const float unit = params.probabilityCode.scale * params.vCode.scale;
    for (std::int64_t r = 0; r < strip.rows; ++r) {
        const std::int64_t place = strip.batch * params.outStrides.batch +
                                   strip.head * params.outStrides.head +
                                   (strip.first + r) * params.outStrides.row;
        const std::int32_t rowTerm =
            values.zeroPoint == 0 ? 0 : values.zeroPoint * sumOfRow(codes + r * codeBytes, params.keyLength);
        finishOut(params, steps, words + r * values.paddedColumns(), values.offsets, rowTerm, unit,
                  params.valueHeadSize, static_cast<std::byte*>(params.out) + place * elementBytes);
    }
}

void runHead(const Int8Attention& params, const Steps& steps, std::int64_t batch, std::int64_t head) {
    const std::int64_t shared = head * params.keyValueHeads / params.queryHeads;
    RightSide keys{params.headSize, params.keyLength};
    RightSide values{params.keyLength, params.valueHeadSize};
    auto* panels = threadScratch<Panels, std::uint8_t>(keys.bytes() + values.bytes());
    auto* columns = threadScratch<Columns, std::int32_t>(keys.paddedColumns() + values.paddedColumns());
    const auto at = [&](const void* data, const HeadStrides& strides) {
        return static_cast<const std::uint8_t*>(data) + batch * strides.batch + shared * strides.head;
    };
    fillRightSide(keys, at(params.k, params.kStrides), 1, params.kStrides.row, params.kCode,
                  unsignedZero(params.qCode), panels, columns);
    fillRightSide(values, at(params.v, params.vStrides), params.vStrides.row, 1, params.vCode,
                  unsignedZero(params.probabilityCode), panels + keys.bytes(),
                  columns + keys.paddedColumns());
    std::int64_t strips = ceilDivide(params.queryLength, kStripRows);
    for (std::int64_t first = 0, rows = 0; first < params.queryLength; first += rows, --strips) {
        rows = ceilDivide(params.queryLength - first, strips);
        runStrip(params, steps, keys, values, {batch, head, first, rows});
    }
}

}  // namespace

void attentionInt8Native(const Int8Attention& params) {
    const auto codeOf = [](const std::optional<Int8Code>& code) {
        return vectorCode(code.value_or(Int8Code{}));
    };
    Int8Code probability = params.probabilityCode;
    // The codes of probabilities stay here, as the left side of a product: unsigned.
    probability.zeroPoint = unsignedZero(probability);
    probability.type = DType::uint8;
    const Steps steps{codeOf(params.productCode), codeOf(params.scaledCode), codeOf(params.maskedCode),
                      vectorCode(probability), codeOf(params.outCode)};
    const auto work = static_cast<double>(
        params.queryLength * params.keyLength * (params.headSize + params.valueHeadSize) + 1);
    const auto grain = std::max<std::int64_t>(1, static_cast<std::int64_t>(1e6 / work));
    parallelRanges(params.batch * params.queryHeads, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            runHead(params, steps, i / params.queryHeads, i % params.queryHeads);
    });
}

}  // namespace tcompress::kernels
