// Values that depend on the inputs' shapes alone are kept for shapes that come again, within bounds.

#include <catch2/catch.hpp>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"

namespace {

using namespace tcompress;

TEST_CASE("inputs of ever new lengths give what they should and take no ever more memory") {
    // `ones` is [t, 65536] and made anew for each t: 2 MiB at t = 8.
    const ir::Model model = ir::fromText(R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[t, 1] x) => (float[t, 65536] y)
<int64[1] width = {65536}, float[1] one = {1}> {
    length = Shape<start = 0, end = 1>(x)
    shape = Concat<axis = 0>(length, width)
    ones = Expand(one, shape)
    y = Add(ones, x)
}
)");
    exec::Executor executor(model);
    const auto run = [&](std::int64_t length) {
        Tensor x(DType::float32, {length, 1});
        for (std::int64_t i = 0; i < length; ++i) x.mutableData<float>()[static_cast<std::size_t>(i)] = static_cast<float>(i);
        const Tensor y = executor.run({{"x", x}}).front();
        REQUIRE(y.shape() == Shape{length, 65536});
        CHECK(y.data<float>().front() == 1.0F);
        CHECK(y.data<float>().back() == static_cast<float>(length));
    };
    for (std::int64_t length = 8; length < 24; ++length) run(length);
    for (const std::int64_t again : {8, 23, 8, 22}) run(again);
    // Together they would be 60 MiB. What is kept takes 8, the largest run twice 6.
    CHECK(executor.peakArenaBytes() < (std::size_t{28} << 20));
}

}  // namespace
