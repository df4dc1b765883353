#include "lib/data/npy.h"

#include <catch2/catch.hpp>
#include <cstring>

#include "lib/data/dataset.h"
#include "lib/support/error.h"
#include "tests/support/judge.h"
#include "tests/unit/data/files.h"

namespace tcompress::data {
namespace {

using Catch::Contains;

Tensor parse(const std::string& file) {
    std::shared_ptr<std::byte[]> bytes(new std::byte[file.size() + 1]);
    std::memcpy(bytes.get(), file.data(), file.size());
    return npyTensor({bytes, bytes.get()}, file.size(), "a.npy");
}

template <class T>
std::string raw(std::initializer_list<T> values) {
    return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

template <class T>
std::vector<T> values(const Tensor& tensor) {
    return {tensor.data<T>().begin(), tensor.data<T>().end()};
}

TEST_CASE("npy: every version and type is read", "[data]") {
    const std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    for (const int version : {1, 2, 3}) {
        const Tensor tensor = parse(npyFile(dict, raw<float>({1, 2, 3, 4, 5, 6}), version));
        CHECK(tensor.shape() == Shape{2, 3});
        CHECK(values<float>(tensor) == std::vector<float>{1, 2, 3, 4, 5, 6});
    }
    const auto typed = [](const std::string& descr, const std::string& array) {
        return parse(npyFile("{'descr': '" + descr + "', 'fortran_order': False, 'shape': (2,)}", array));
    };
    CHECK(values<std::int64_t>(typed("<i8", raw<std::int64_t>({-1, 7}))) == std::vector<std::int64_t>{-1, 7});
    CHECK(values<std::int32_t>(typed("<i4", raw<std::int32_t>({-1, 7}))) == std::vector<std::int32_t>{-1, 7});
    CHECK(values<std::int16_t>(typed("<i2", raw<std::int16_t>({-1, 7}))) == std::vector<std::int16_t>{-1, 7});
    CHECK(values<std::int8_t>(typed("|i1", raw<std::int8_t>({-1, 7}))) == std::vector<std::int8_t>{-1, 7});
    CHECK(values<std::uint64_t>(typed("<u8", raw<std::uint64_t>({1, 7}))) ==
          std::vector<std::uint64_t>{1, 7});
    CHECK(values<std::uint32_t>(typed("<u4", raw<std::uint32_t>({1, 7}))) ==
          std::vector<std::uint32_t>{1, 7});
    CHECK(values<std::uint16_t>(typed("<u2", raw<std::uint16_t>({1, 7}))) ==
          std::vector<std::uint16_t>{1, 7});
    CHECK(values<std::uint8_t>(typed("|u1", raw<std::uint8_t>({1, 7}))) == std::vector<std::uint8_t>{1, 7});
    CHECK(values<double>(typed("<f8", raw<double>({0.5, 7}))) == std::vector<double>{0.5, 7});
    CHECK(typed("<f2", raw<std::uint16_t>({0x3c00, 0})).dtype() == DType::float16);
    CHECK(toFloat32(typed("<f2", raw<std::uint16_t>({0x3c00, 0xc000}))) == std::vector<float>{1, -2});
    // 2 is true to numpy; a C++ bool of 2 would be undefined.
    CHECK(toInt64(typed("|b1", raw<std::uint8_t>({2, 0}))) == std::vector<std::int64_t>{1, 0});
}

TEST_CASE("npy: Fortran order is rearranged, other shapes are kept", "[data]") {
    const Tensor tensor = parse(
        npyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", raw<float>({1, 4, 2, 5, 3, 6})));
    CHECK(tensor.shape() == Shape{2, 3});
    CHECK(values<float>(tensor) == std::vector<float>{1, 2, 3, 4, 5, 6});
    CHECK(parse(npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", raw<float>({3})))
              .shape()
              .empty());
    CHECK(parse(npyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 0, 3)}", "")).shape() ==
          Shape{2, 0, 3});
}

TEST_CASE("npy: what is malformed is refused with the reason", "[data]") {
    const auto dict = [](const std::string& descr, const std::string& shape) {
        return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + "}";
    };
    const std::string array = raw<float>({1, 2});
    CHECK_THROWS_WITH(parse("no array"), Contains("is no .npy array"));
    CHECK_THROWS_WITH(parse(npyFile(dict("<f4", "(2,)"), array, 9)), Contains("version 9"));
    CHECK_THROWS_WITH(parse(npyFile(dict("<f4", "(3,)"), array)), Contains("needs 12 bytes, the file has 8"));
    CHECK_THROWS_WITH(parse(npyFile(dict("<f4", "(1,)"), array)), Contains("needs 4 bytes, the file has 8"));
    CHECK_THROWS_WITH(parse(npyFile(dict(">f4", "(2,)"), array)), Contains("big-endian"));
    CHECK_THROWS_WITH(parse(npyFile(dict("|O", "(2,)"), array)), Contains("type '|O' is not read"));
    CHECK_THROWS_WITH(parse(npyFile(dict("<f4", "(-2,)"), array)), Contains("a dimension expected"));
    CHECK_THROWS_WITH(parse(npyFile(dict("<f4", "(4294967296, 4294967296)"), array)),
                      Contains("larger than any memory"));
    CHECK_THROWS_WITH(parse(npyFile(dict("<f4", "(99999999999999999999,)"), array)),
                      Contains("out of range"));
    CHECK_THROWS_WITH(
        parse(npyFile("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", array)),
        Contains("structured arrays"));
    CHECK_THROWS_WITH(parse(npyFile("{'descr': '<f4', 'shape': (2,)}", array)), Contains("lacks"));
    const std::string whole = npyFile(dict("<f4", "(2,)"), array);
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_THROWS_AS(parse(whole.substr(0, size)), DataError);
}

TEST_CASE("npy: the header is the one that numpy writes", "[data]") {
    const std::string header = npyHeader(Tensor(DType::int64, {450, 1, 8, 8}));
    CHECK(header.size() == 128);
    CHECK(header.substr(10, 69) == "{'descr': '<i8', 'fortran_order': False, 'shape': (450, 1, 8, 8), }  ");
    CHECK(header.back() == '\n');
    CHECK(npyHeader(Tensor(DType::float32, {7})).find("'shape': (7,), }") != std::string::npos);
    CHECK(npyHeader(Tensor(DType::uint8, {})).find("'|u1', 'fortran_order': False, 'shape': (), }") !=
          std::string::npos);
    CHECK_THROWS_AS(npyHeader(Tensor(DType::bfloat16, {7})), DataError);
}

}  // namespace
}  // namespace tcompress::data
