#include "kernels/add_codes.h"

#include <algorithm>

#include "kernels/native/vector_code.h"
#include "lib/support/parallel.h"

namespace tcompress::kernels {

namespace {

/// value = stored · scale + offset, with the zero point in the offset: exact but for its one rounding.
struct Decoded {
    FloatVector scale;
    IntVector zeroPoint;
    std::int32_t flip = 0;  // makes the stored byte an unsigned one, as zeroPoint is
};
Decoded decodedBy(const Int8Code& code) {
    const std::int32_t shift = code.type == DType::int8 ? 128 : 0;
    return {broadcastVector(code.scale), IntVector{} + (code.zeroPoint + shift), shift};
}

TCOMPRESS_INLINE FloatVector decode(const std::uint8_t* source, std::int64_t count, const Decoded& code) {
    std::int32_t wide[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) wide[lane] = lane < count ? source[lane] ^ code.flip : 0;
    IntVector values;
    std::memcpy(&values, wide, sizeof values);
    return __builtin_convertvector(values - code.zeroPoint, FloatVector) * code.scale;
}

TCOMPRESS_MULTIVERSION void addRange(const std::uint8_t* a, const std::uint8_t* b, std::int64_t count,
                                     const Decoded& aCode, const Decoded& bCode, const VectorCode& yCode,
                                     std::uint8_t* y) {
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        storeCodes(y + i, decode(a + i, kLanes, aCode) + decode(b + i, kLanes, bCode), yCode, kLanes);
    if (i < count)
        storeCodes(y + i, decode(a + i, count - i, aCode) + decode(b + i, count - i, bCode), yCode,
                   count - i);
}

}  // namespace

void addCodes(const AddCodes& params) {
    constexpr std::int64_t kTask = 1 << 16;
    const Decoded a = decodedBy(params.aCode), b = decodedBy(params.bCode);
    const VectorCode y = vectorCode(params.yCode);
    parallelRanges(params.count, kTask, [&](std::int64_t begin, std::int64_t end) {
        addRange(static_cast<const std::uint8_t*>(params.a) + begin,
                 static_cast<const std::uint8_t*>(params.b) + begin, end - begin, a, b, y,
                 static_cast<std::uint8_t*>(params.y) + begin);
    });
}

}  // namespace tcompress::kernels
