// Storage of constants without their zeros, as files of others may state it: sizes that are left to the runtime, that nothing
// could hold, or that contradict each other.

#include <fmt/core.h>

#include <catch2/catch.hpp>

#include "lib/analysis/cost.h"
#include "lib/analysis/sparse_storage.h"
#include "tests/support/text_model.h"

using namespace tcompress;
using namespace tcompress::analysis;

namespace {

/// 16 elements behind two codes; `shape` is the reshape's target, `before` what lies in front of it and makes v of w.
ir::Model stored(const std::string& shape, const std::string& before = "v = Identity(w)",
                 const std::string& patterns = "uint8[2,8] patterns = {1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}") {
    return test::modelFromText(R"(
<ir_version: 10, opset_import: ["" : 17]>
g (float[n] x) => (y)
<uint8[2] codes = {0, 1}, )" + patterns +
                               R"(, float[3] values = {0, 1, 2}, int64 axis = {0}, int64[1] flat = {-1}, )" + shape + R"(,
 int64[1] zero = {0}, int64[1] end = {16}>
{
  c = Cast <to = 6> (codes)
  rows = Gather(patterns, c)
  i = Cast <to = 6> (rows)
  marks = Reshape(i, flat)
  sum = CumSum(marks, axis)
  index = Mul(sum, marks)
  w = Gather(values, index)
  )" + before + R"(
  y = Reshape(v, target)
}
)");
}

std::optional<SparseStorage> storageOf(const ir::Model& model) {
    return sparseStorage(*model.graph().find("w")->producer());
}

const std::string kSliced = "v = Slice(w, zero, end)";

}  // namespace

TEST_CASE("elements of a stored constant are counted whatever its shape is written as") {
    const std::string target = GENERATE("int64[1] target = {-1}", "int64[2] target = {4, 4}", "int64[2] target = {-1, 8}", "int64[1] target = {0}");
    CAPTURE(target);
    const ir::Model model = stored(target, kSliced);
    const auto storage = storageOf(model);
    REQUIRE(storage);
    CHECK(storage->elements == 16);
    CHECK(cost(model, recognise(model)).parameters == 16);
}

TEST_CASE("a size that is not known counts nothing") {
    const auto storage = storageOf(stored("int64[2] target = {-1, 8}", "n = Shape(x)\n  v = Slice(w, zero, n)"));
    REQUIRE(storage);
    CHECK(storage->elements == 0);
}

TEST_CASE("what the codes cannot hold is no stored constant") {
    const std::string target = GENERATE("int64[1] target = {4611686018427387904}", "int64[1] target = {17}");
    CAPTURE(target);
    const ir::Model model = stored(target, kSliced);
    CHECK_FALSE(storageOf(model));
    CHECK_NOTHROW(cost(model, recognise(model)));
}

TEST_CASE("patterns are a matrix") {
    CHECK_FALSE(storageOf(stored("int64[1] target = {-1}", kSliced, "uint8[2] patterns = {0, 1}")));
}

TEST_CASE("a chain of slices has any length") {
    std::string chain = "v0 = Slice(w, zero, end)\n";
    constexpr int kLength = 20000;
    for (int i = 1; i < kLength; ++i) chain += fmt::format("v{} = Slice(v{}, zero, end)\n", i, i - 1);
    const auto storage = storageOf(stored("int64[1] target = {16}", chain + fmt::format("v = Identity(v{})", kLength - 1)));
    REQUIRE(storage);
    CHECK(storage->elements == 0);
}

TEST_CASE("a stored constant whose shape contradicts its elements is analysed all the same") {
    const std::string target = GENERATE("int64[2] target = {3, 5}", "int64[2] target = {-1, 5}", "int64[2] target = {-1, -1}", "int64[2] target = {16, 0}",
                                        "int64[2] target = {4611686018427387904, 4611686018427387904}");
    CAPTURE(target);
    const ir::Model model = stored(target, kSliced);
    CHECK_NOTHROW(cost(model, recognise(model)));
}
