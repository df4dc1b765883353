#include "lib/tensor/tensor.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>
#include <thread>

#include "lib/support/error.h"
#include "lib/tensor/spilled.h"

using namespace tcompress;

namespace {

Tensor counted(DType dtype, Shape shape) {
    Tensor values(DType::int64, std::move(shape));
    auto data = values.mutableData<std::int64_t>();
    std::iota(data.begin(), data.end(), 0);
    return convert(values, dtype);
}

}  // namespace

TEST_CASE("element types know their size and name") {
    CHECK(bitsPerElement(DType::float32) == 32);
    CHECK(bitsPerElement(DType::int4) == 4);
    CHECK(bitsPerElement(DType::uint2) == 2);
    CHECK(bitsPerElement(DType::string) == 0);
    CHECK(bitsPerElement(static_cast<DType>(99)) == 0);
    CHECK(bitsPerElement(static_cast<DType>(-1)) == 0);
    CHECK(packedSizeBytes(DType::int4, 7) == 4);
    CHECK(packedSizeBytes(DType::int2, 5) == 2);
    CHECK(packedSizeBytes(DType::float64, 3) == 24);
    CHECK(packedSizeBytes(DType::int4, 0) == 0);
    CHECK(name(DType::bfloat16) == "bfloat16");
    CHECK(name(DType::boolean) == "bool");
    CHECK(name(static_cast<DType>(99)) == "unknown");
    CHECK(isFloatingPoint(DType::float4e2m1));
    CHECK_FALSE(isFloatingPoint(DType::int8));
    CHECK(isInteger(DType::uint4));
    CHECK_FALSE(isInteger(DType::boolean));
}

TEST_CASE("shapes have a text and a product") {
    CHECK(elementCount({}) == 1);
    CHECK(elementCount({2, 3, 4}) == 24);
    CHECK(elementCount({5, 0, 7}) == 0);
    CHECK(toString(Shape{2, 3}) == "[2, 3]");
    CHECK(toString(Shape{}) == "[]");
    CHECK_THROWS_AS(elementCount({2, -1}), ModelError);
    CHECK_THROWS_AS(elementCount({std::int64_t{1} << 40, std::int64_t{1} << 40}), ModelError);
}

TEST_CASE("a copy shares its bytes until one of them is written") {
    Tensor a = Tensor::of<float>({3}, {1, 2, 3});
    Tensor b = a;
    CHECK(b.sharesBytesWith(a));
    b.mutableData<float>()[0] = 9;
    CHECK_FALSE(b.sharesBytesWith(a));
    CHECK(a.data<float>()[0] == 1);
    CHECK(b.data<float>()[0] == 9);
    const std::byte* place = b.bytes().data();
    b.mutableData<float>()[1] = 8;
    CHECK(b.bytes().data() == place);
}

TEST_CASE("shared bytes are never written") {
    std::vector<float> outside{1, 2, 3, 4};
    std::shared_ptr<const std::byte> bytes(reinterpret_cast<const std::byte*>(outside.data()), [](auto*) {});
    Tensor tensor = Tensor::share(DType::float32, {2, 2}, bytes);
    bytes.reset();
    CHECK(tensor.data<float>().data() == outside.data());
    tensor.mutableData<float>()[0] = 7;
    CHECK(outside[0] == 1);
    CHECK(tensor.data<float>()[0] == 7);
}

TEST_CASE("misaligned bytes are seen through one aligned copy, also by several threads") {
    alignas(8) std::byte storage[4 * 5 + 1] = {};
    float values[5] = {1, 2, 3, 4, 5};
    std::memcpy(storage + 1, values, sizeof(values));
    Tensor tensor = Tensor::share(DType::float32, {5},
                                  std::shared_ptr<const std::byte>(storage + 1, [](const std::byte*) {}));
    Tensor copy = tensor;
    const float* seen[2] = {};
    std::thread first([&] { seen[0] = tensor.data<float>().data(); });
    std::thread second([&] { seen[1] = copy.data<float>().data(); });
    first.join();
    second.join();
    CHECK(seen[0] == seen[1]);
    CHECK(reinterpret_cast<std::uintptr_t>(seen[0]) % alignof(float) == 0);
    CHECK(std::equal(values, values + 5, seen[0]));
    CHECK(tensor.bytes().data() == storage + 1);
    copy.mutableData<float>()[4] = 6;
    CHECK(copy.data<float>()[4] == 6);
    CHECK(copy.data<float>()[0] == 1);
    CHECK(tensor.data<float>()[4] == 5);
}

TEST_CASE("a typed view checks the type") {
    Tensor tensor(DType::float32, {2});
    CHECK(tensor.data<float>()[1] == 0.0f);
    CHECK_THROWS_AS(tensor.data<double>(), InternalError);
    CHECK_THROWS_AS(Tensor::of<float>({3}, {1.0f}), InternalError);
}

TEST_CASE("reshaping keeps the bytes and the count") {
    Tensor tensor = counted(DType::float32, {2, 6});
    Tensor reshaped = tensor.reshaped({3, 4});
    CHECK(reshaped.shape() == Shape{3, 4});
    CHECK(reshaped.sharesBytesWith(tensor));
    CHECK_THROWS_AS(tensor.reshaped({5}), InternalError);
}

TEST_CASE("an empty tensor and a scalar") {
    Tensor empty(DType::float32, {0, 3});
    CHECK(empty.size() == 0);
    CHECK(empty.bytes().empty());
    CHECK(compress(empty, 1, {true, false, true}).shape() == Shape{0, 2});
    CHECK(transpose(empty, {1, 0}).shape() == Shape{3, 0});
    Tensor scalar = Tensor::scalar(2.5f);
    CHECK(scalar.rank() == 0);
    CHECK(scalar.size() == 1);
    CHECK(transpose(scalar, {}).data<float>()[0] == 2.5f);
    CHECK(Tensor().dtype() == DType::undefined);
    CHECK(Tensor().bytes().empty());
}

TEST_CASE("compress keeps the marked positions of an axis, for every kind of type") {
    for (DType dtype :
         {DType::float32, DType::int8, DType::float16, DType::int64, DType::uint4, DType::uint2}) {
        // 4-bit and 2-bit values wrap; the expected ones are made the same way.
        Tensor tensor = counted(dtype, {3, 5, 2});
        std::vector<std::int64_t> all = toInt64(tensor);
        for (std::int64_t axis : {0, 1, 2, -1}) {
            std::size_t a = static_cast<std::size_t>(axis < 0 ? axis + 3 : axis);
            std::vector<bool> keep(static_cast<std::size_t>(tensor.shape()[a]));
            for (std::size_t i = 0; i < keep.size(); ++i) keep[i] = i % 3 != 1;
            std::vector<std::int64_t> expected;
            for (std::size_t i = 0; i < all.size(); ++i) {
                std::size_t index[3] = {i / 10, i / 2 % 5, i % 2};
                if (keep[index[a]]) expected.push_back(all[i]);
            }
            Tensor kept = compress(tensor, axis, keep);
            CHECK(toInt64(kept) == expected);
            CHECK(kept.shape()[a] == std::count(keep.begin(), keep.end(), true));
        }
    }
    CHECK_THROWS_AS(compress(counted(DType::float32, {2, 2}), 2, {true, true}), InternalError);
    CHECK_THROWS_AS(compress(counted(DType::float32, {2, 2}), 0, {true}), InternalError);
}

TEST_CASE("transpose moves every element to its place, for every kind of type") {
    for (DType dtype : {DType::float32, DType::int8, DType::float16, DType::int64, DType::uint4}) {
        Tensor tensor = counted(dtype, {2, 3, 5});
        std::vector<std::int64_t> all = toInt64(tensor);
        std::vector<std::int64_t> perm{0, 1, 2};
        do {
            Tensor moved = transpose(tensor, perm);
            std::vector<std::int64_t> values = toInt64(moved);
            const Shape& s = moved.shape();
            bool same = true;
            for (std::int64_t i = 0; i < moved.size(); ++i) {
                std::int64_t target[3] = {i / (s[1] * s[2]), i / s[2] % s[1], i % s[2]};
                std::int64_t source[3] = {};
                for (std::size_t d = 0; d < 3; ++d) source[perm[d]] = target[d];
                same = same && values[static_cast<std::size_t>(i)] ==
                                   all[static_cast<std::size_t>((source[0] * 3 + source[1]) * 5 + source[2])];
            }
            CHECK(same);
        } while (std::next_permutation(perm.begin(), perm.end()));
    }
    CHECK_THROWS_AS(transpose(counted(DType::float32, {2, 2}), {0, 0}), InternalError);
    CHECK_THROWS_AS(transpose(counted(DType::float32, {2, 2}), {0}), InternalError);
}

TEST_CASE("A spilled tensor holds the same values, and its pages can be released") {
    std::vector<float> values(50'000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    const Tensor tensor = spilled(Tensor::of<float>({50'000}, std::span<const float>(values))).get();
    CHECK(std::ranges::equal(tensor.data<float>(), values));
    tensor.releasePages();
    CHECK(std::ranges::equal(tensor.data<float>(), values));
    CHECK(spilled(Tensor(DType::float32, {0})).get().size() == 0);
}
