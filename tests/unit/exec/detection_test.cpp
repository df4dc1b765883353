// Boxes that are no boxes: what their positions are not, is not read.

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

#include "lib/exec/executor.h"
#include "lib/ir/load.h"

namespace {

using namespace tcompress;

TEST_CASE("a region whose place is no number has no pixels") {
    const std::string mode = GENERATE("avg", "max");
    CAPTURE(mode);
    const ir::Model model = ir::fromText(R"(
<ir_version: 10, opset_import: ["" : 16]>
agraph (float[1, 1, 4, 4] x, float[1, 4] box) => (float[1, 1, 2, 2] y)
<int64[1] batch = {0}> {
    y = RoiAlign<output_height = 2, output_width = 2, sampling_ratio = 2, mode = ")" + mode + R"(">(x, box, batch)
}
)");
    exec::Executor executor(model);
    Tensor x(DType::float32, {1, 1, 4, 4}), box(DType::float32, {1, 4});
    std::ranges::fill(x.mutableData<float>(), 3.0F);
    const auto run = [&](float left) {
        const auto place = box.mutableData<float>();
        std::ranges::copy(std::array{left, 0.0F, 4.0F, 4.0F}, place.begin());
        const Tensor y = executor.run({{"x", x}, {"box", box}}).front();
        return std::vector<float>(y.data<float>().begin(), y.data<float>().end());
    };
    CHECK(run(0).back() > 0);
    CHECK(run(std::numeric_limits<float>::quiet_NaN()) == std::vector<float>(4, 0.0F));
}

}  // namespace
