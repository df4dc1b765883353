#include "lib/support/byte_size.h"

#include <catch2/catch.hpp>

using namespace tcompress;

TEST_CASE("sizes as people write them") {
    CHECK(parseByteSize("0") == 0);
    CHECK(parseByteSize("268435456") == 268435456);
    CHECK(parseByteSize("300MB") == 300000000);
    CHECK(parseByteSize("300 mb") == 300000000);
    CHECK(parseByteSize("1.5GiB") == 1610612736);
    CHECK(parseByteSize("7kB") == 7000);
    CHECK(parseByteSize("7 KiB") == 7168);
    CHECK(parseByteSize("2TiB") == std::uint64_t{2} << 40);
    CHECK(parseByteSize("12b") == 12);
    for (const char* text :
         {"", "MB", "-1", "1 parsec", "1MBx", "1M B", "nan", "inf", "1e30", "99999999TB", " 5"}) {
        INFO(text);
        CHECK_FALSE(parseByteSize(text));
    }
}
