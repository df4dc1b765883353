#include "kernels/attention_int8.h"

#include <catch2/catch.hpp>

#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

std::vector<std::uint8_t> randomBytes(std::int64_t count, const char* name) {
    Random random(7, name);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
    return bytes;
}

std::int32_t valueOf(std::uint8_t byte, DType type) {
    return type == DType::uint8 ? byte : static_cast<std::int8_t>(byte);
}

}  // namespace

TEST_CASE(
    "int8 attention agrees with its definition, for every mix of codes and sizes, on any number of threads") {
    Restore restore;
    const Int8Code unsignedCode{DType::uint8, 0.02F, 120};
    const Int8Code signedCode{DType::int8, 0.03F, -5};
    std::int64_t compared = 0, different = 0;
    for (const std::int64_t queries : {1, 5, 12, 13, 30})
        for (const std::int64_t keys : {1, 4, 15, 33, 64})
            for (const std::int64_t size : {1, 8, 34})
                for (int variant = 0; variant < 8; ++variant) {
                    Int8Attention p;
                    p.batch = 2;
                    p.queryHeads = 4;
                    p.keyValueHeads = variant & 1 ? 2 : 4;
                    p.queryLength = queries;
                    p.keyLength = keys;
                    p.headSize = size;
                    p.valueHeadSize = size + 1;
                    // Rows first: [batch, rows, heads, size].
                    const auto strides = [](std::int64_t rows, std::int64_t heads, std::int64_t width) {
                        return HeadStrides{rows * heads * width, width, heads * width};
                    };
                    p.qStrides = strides(queries, p.queryHeads, size);
                    p.kStrides = strides(keys, p.keyValueHeads, size);
                    p.vStrides = strides(keys, p.keyValueHeads, size + 1);
                    p.outStrides = strides(queries, p.queryHeads, size + 1);
                    const auto q = randomBytes(2 * p.qStrides.batch, "q");
                    const auto k = randomBytes(2 * p.kStrides.batch, "k");
                    const auto v = randomBytes(2 * p.vStrides.batch, "v");
                    p.q = q.data();
                    p.k = k.data();
                    p.v = v.data();
                    p.qCode = variant & 1 ? signedCode : unsignedCode;
                    p.kCode = variant & 2 ? signedCode : unsignedCode;
                    p.vCode = variant & 4 ? unsignedCode : signedCode;
                    p.scale = 0.4F;
                    if (variant & 1) p.productCode = Int8Code{DType::uint8, 0.05F, 128};
                    if (variant & 2) p.scaledCode = Int8Code{DType::int8, 0.02F, 0};
                    if (variant & 4) p.maskedCode = Int8Code{DType::uint8, 0.03F, 200};
                    const auto mask = randomFloats(2 * keys, "mask");
                    if (variant != 3) {
                        p.mask = mask.data();
                        p.maskStrides = {keys, 0, 0};
                        p.maskColumnStride = variant == 5 ? 0 : 1;
                    }
                    p.probabilityCode = variant & 2 ? Int8Code{DType::int8, 1 / 255.0F, -128}
                                                    : Int8Code{DType::uint8, 1 / 255.0F, 0};
                    const bool coded = variant != 6;
                    if (coded) p.outCode = variant & 1 ? signedCode : unsignedCode;
                    const std::int64_t count = 2 * p.outStrides.batch;
                    std::vector<float> floats(static_cast<std::size_t>(count + 1), 7.0F),
                        floatReference = floats;
                    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count + 1), 0x77),
                        byteReference = bytes;
                    p.out = coded ? static_cast<void*>(bytes.data()) : floats.data();
                    attention(p);
                    REQUIRE(bytes.back() == 0x77);
                    REQUIRE(floats.back() == 7.0F);
                    setKernelChoice(KernelChoice::reference);
                    p.out = coded ? static_cast<void*>(byteReference.data()) : floatReference.data();
                    attention(p);
                    setKernelChoice(KernelChoice::fastest);
                    INFO(queries << " queries, " << keys << " keys, size " << size << ", variant "
                                 << variant);
                    for (std::int64_t i = 0; i < count; ++i) {
                        ++compared;
                        if (coded) {
                            const int distance = std::abs(valueOf(bytes[i], p.outCode->type) -
                                                          valueOf(byteReference[i], p.outCode->type));
                            // A probability that rounds the other way moves a result by at most 255 · its
                            // scale · v's scale.
                            REQUIRE(distance <= 2);
                            if (distance) ++different;
                        } else {
                            REQUIRE(std::abs(floats[i] - floatReference[i]) <= 0.06F);
                            if (std::abs(floats[i] - floatReference[i]) > 1e-5F) ++different;
                        }
                    }
                    setThreadCount(3);
                    auto again = bytes;
                    auto floatsAgain = floats;
                    p.out = coded ? static_cast<void*>(again.data()) : floatsAgain.data();
                    attention(p);
                    setThreadCount(0);
                    REQUIRE(again == bytes);
                    REQUIRE(sameBits(floatsAgain, floats));
                }
    CHECK(different * 1000 < compared * 5);
}
