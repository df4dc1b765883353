// com.microsoft GatherBlockQuantized: slices of a table that is quantized in blocks along one of its axes.

#include <algorithm>

#include "lib/exec/ops/support.h"

namespace tcompress::exec {

namespace {

/// Fields of 2, 4 or 8 bits, low bits first, and the number that each code stands for.
class Codes {
  public:
    Codes(DType type, std::int64_t bits) : bits_(bits) {
        Tensor all(type, {std::int64_t{1} << bits});
        const auto bytes = all.mutableBytes();
        for (std::int64_t code = 0; code < all.size(); ++code) {
            const std::int64_t bit = code * bits;
            bytes[static_cast<std::size_t>(bit / 8)] |= static_cast<std::byte>(code << (bit % 8));
        }
        values_ = toFloat32(all);
    }
    float at(const std::byte* fields, std::int64_t i) const {
        const std::int64_t bit = i * bits_;
        const int code = std::to_integer<int>(fields[bit / 8]) >> (bit % 8) & ((1 << bits_) - 1);
        return values_[static_cast<std::size_t>(code)];
    }
    std::int64_t perByte() const { return 8 / bits_; }

  private:
    std::int64_t bits_;
    std::vector<float> values_;
};

/// The type of the fields: the table's own, or the unsigned one of `bits` bits that its bytes hold.
DType fieldType(DType table, std::int64_t bits) {
    if (table != DType::uint8) return table;
    switch (bits) {
        case 2:
            return DType::uint2;
        case 4:
            return DType::uint4;
        case 8:
            return DType::uint8;
        default:
            throw KernelError(fmt::format("{} bits are not supported (2, 4 and 8 are)", bits));
    }
}

/// The shape that the fields have: bytes hold several along the last axis.
Shape fieldShape(const Tensor& tensor, const Codes& codes) {
    Shape shape = tensor.shape();
    if (tensor.dtype() == DType::uint8 && !shape.empty()) shape.back() *= codes.perByte();
    return shape;
}

/// y = (table − zero point) · scale for the chosen slices. An index outside of the table gives zeros.
/// Inputs: table, indices, scales, [zero points].
Runner makeGatherBlockQuantized(const NodeInfo& info) {
    const std::int64_t gatherAxis = info.attributes.integer("gather_axis", 0);
    const std::int64_t quantizeAxis = info.attributes.integer("quantize_axis", 1);
    const std::int64_t block = info.attributes.integer("block_size", 128);
    const std::int64_t bits = info.attributes.integer("bits", 4);
    if (block < 0) throw ModelError(fmt::format("block_size is {}", block));
    // Converted once: a table's scales are many.
    const auto constantScales =
        info.constant(2) ? std::make_shared<const std::vector<float>>(toFloat32(*info.constant(2))) : nullptr;
    return [=](OpContext& context) {
        const Tensor& table = context.input(0);
        const DType type = fieldType(table.dtype(), bits);
        const Codes codes(type, bitsPerElement(type));
        const Shape shape = fieldShape(table, codes);
        const auto rank = static_cast<std::int64_t>(shape.size());
        const auto gather = static_cast<std::size_t>(normalizeAxis(gatherAxis, rank));
        const auto quantize = static_cast<std::size_t>(normalizeAxis(quantizeAxis, rank));
        const std::int64_t blockSize = block > 0 ? block : std::max<std::int64_t>(1, shape[quantize]);
        Shape scaleShape = shape;
        scaleShape[quantize] = (shape[quantize] + blockSize - 1) / blockSize;
        if (context.input(2).shape() != scaleShape) {
            throw KernelError(fmt::format("scales of shape {} are not one a block of {} of the table {}",
                                          toString(context.input(2).shape()), blockSize, toString(shape)));
        }
        const auto scales = constantScales
                                ? constantScales
                                : std::make_shared<const std::vector<float>>(toFloat32(context.input(2)));
        const Tensor* zeroPoints = context.optionalInput(3);
        if (zeroPoints && (zeroPoints->rank() != rank || zeroPoints->dtype() != table.dtype())) {
            throw ModelError(fmt::format("zero points {} {} for a table {} {}", name(zeroPoints->dtype()),
                                         toString(zeroPoints->shape()), name(table.dtype()),
                                         toString(table.shape())));
        }
        // Rows of packed zero points are whole bytes, so they may be longer than those of the scales.
        const Shape zeroShape = zeroPoints ? fieldShape(*zeroPoints, codes) : scaleShape;
        const std::int64_t zeroRow = zeroShape.back();
        const std::int64_t scaleRow = scaleShape.back();
        if (zeroRow < scaleRow || !std::equal(zeroShape.begin(), zeroShape.end() - 1, scaleShape.begin())) {
            throw ModelError(fmt::format("zero points of shape {} do not fit scales of shape {}",
                                         toString(zeroShape), toString(scaleShape)));
        }
        const float middle = table.dtype() == DType::uint8 ? static_cast<float>(1 << (bits - 1)) : 0.0F;
        const std::vector<std::int64_t> indices = integers(context.input(1));
        const auto count = static_cast<std::int64_t>(indices.size());
        const std::int64_t outer = product(shape, 0, gather);
        const std::int64_t inner = product(shape, gather + 1, shape.size());
        const std::int64_t after = product(shape, quantize + 1, shape.size());
        Shape result(shape.begin(), shape.begin() + static_cast<std::ptrdiff_t>(gather));
        result.insert(result.end(), context.input(1).shape().begin(), context.input(1).shape().end());
        result.insert(result.end(), shape.begin() + static_cast<std::ptrdiff_t>(gather) + 1, shape.end());
        float* y = context.output<float>(0, result).data();
        parallelRanges(outer * count, grainFor(inner), [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t slice = begin; slice < end; ++slice) {
                std::int64_t index = indices[static_cast<std::size_t>(slice % count)];
                if (index < 0) index += shape[gather];
                float* target = y + slice * inner;
                if (index < 0 || index >= shape[gather]) {
                    std::fill_n(target, inner, 0.0F);
                    continue;
                }
                for (std::int64_t i = 0; i < inner; ++i) {
                    const std::int64_t at = (slice / count * shape[gather] + index) * inner + i;
                    const std::int64_t along = at / after % shape[quantize];
                    const std::int64_t scale =
                        (at / after / shape[quantize] * scaleShape[quantize] + along / blockSize) * after +
                        at % after;
                    const float zero = zeroPoints ? codes.at(zeroPoints->bytes().data(),
                                                             scale / scaleRow * zeroRow + scale % scaleRow)
                                                  : middle;
                    target[i] = (codes.at(table.bytes().data(), at) - zero) *
                                (*scales)[static_cast<std::size_t>(scale)];
                }
            }
        });
        const DType outputType = context.input(2).dtype();
        if (outputType != DType::float32) context.setOutput(0, convert(context.outputTensor(0), outputType));
    };
}

const OperatorRow kRows[] = {
    {kContribDomain, "GatherBlockQuantized", 1, makeGatherBlockQuantized,
     TypeSet{DType::int4, DType::uint4, DType::uint8, DType::float8e4m3fn, DType::float8e4m3fnuz,
             DType::float8e5m2, DType::float8e5m2fnuz, DType::float4e2m1},
     FloatSupport::all},
};

}  // namespace

std::span<const OperatorRow> gatherBlocksOperators() { return kRows; }

}  // namespace tcompress::exec
