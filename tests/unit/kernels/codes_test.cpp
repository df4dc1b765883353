#include <catch2/catch.hpp>

#include "kernels/add_codes.h"
#include "kernels/code_table.h"
#include "kernels/native/code_table_native.h"
#include "tests/unit/kernels/kernel_test_support.h"

using namespace tcompress;
using namespace tcompress::kernels;
using namespace tcompress::kernels::test;

namespace {

std::vector<std::uint8_t> randomBytes(std::int64_t count, const char* name) {
    Random random(9, name);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
    return bytes;
}

}  // namespace

TEST_CASE("codes are looked up in a table, at any size") {
    const auto table = randomBytes(256, "table");
    for (const std::int64_t count : {0, 1, 63, 64, 65, 127, 1000, 300000}) {
        const auto x = randomBytes(count, "x");
        std::vector<std::uint8_t> expected, found(x.size() + 1, 0xee), plain(x.size() + 1, 0xee);
        for (std::uint8_t byte : x) expected.push_back(table[byte]);
        expected.push_back(0xee);
        lookUp(x, std::span<const std::uint8_t, 256>(table.data(), 256), found.data());
        CHECK(found == expected);
        lookUpPlain(x.data(), count, table.data(), plain.data());
        CHECK(plain == expected);
    }
}

TEST_CASE("the sum of codes is the code of the sum") {
    const Int8Code codes[] = {{DType::uint8, 0.0713F, 131}, {DType::int8, 0.0319F, -4}};
    for (const Int8Code& aCode : codes)
        for (const Int8Code& bCode : codes)
            for (const Int8Code& yCode : codes)
                for (const std::int64_t count : {1, 15, 16, 17, 70000}) {
                    const auto a = randomBytes(count, "a"), b = randomBytes(count, "b");
                    std::vector<std::uint8_t> y(a.size() + 1, 0xee);
                    addCodes({a.data(), b.data(), aCode, bCode, yCode, count, y.data()});
                    REQUIRE(y.back() == 0xee);
                    const auto valueOf = [](std::uint8_t byte, const Int8Code& code) {
                        const std::int32_t stored =
                            code.type == DType::uint8 ? byte : static_cast<std::int8_t>(byte);
                        return static_cast<float>(stored - code.zeroPoint) * code.scale;
                    };
                    std::int64_t different = 0;
                    for (std::size_t i = 0; i < a.size(); ++i) {
                        const std::int32_t low = yCode.type == DType::uint8 ? 0 : -128;
                        const double rounded =
                            std::nearbyint((valueOf(a[i], aCode) + valueOf(b[i], bCode)) / yCode.scale) +
                            yCode.zeroPoint;
                        const auto expected =
                            static_cast<std::int32_t>(std::clamp<double>(rounded, low, low + 255));
                        const std::int32_t found =
                            yCode.type == DType::uint8 ? y[i] : static_cast<std::int8_t>(y[i]);
                        REQUIRE(std::abs(found - expected) <= 1);
                        if (found != expected) ++different;
                    }
                    CHECK(different * 1000 <= count);
                }
}
