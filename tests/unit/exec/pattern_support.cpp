#include "tests/unit/exec/pattern_support.h"

#include <fmt/core.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/ir/load.h"
#include "lib/support/random.h"

namespace tcompress::test {

Tensor randomTensor(Shape shape, std::string_view name) {
    Tensor tensor(DType::float32, std::move(shape));
    Random random(11, name);
    for (float& x : tensor.mutableData<float>()) x = static_cast<float>(random.normal());
    return tensor;
}

ir::Model textModel(const std::string& signature, const std::string& body, int opset) {
    return ir::fromText(fmt::format(
        "<ir_version: 10, opset_import: [\"\" : {}, \"com.microsoft\" : 1]>\nagraph {} {{\n{}\n}}", opset,
        signature, body));
}

/// Runs both ways and returns the kinds of operators that the fused plan ran.
std::vector<std::string> runBoth(const ir::Model& model, const exec::Feeds& feeds, double tolerance) {
    exec::Executor plain(model, {exec::Fusion::none});
    exec::Executor fused(model, {exec::Fusion::full});
    const std::vector<Tensor> expected = plain.run(feeds);
    const std::vector<Tensor> found = fused.run(feeds);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        REQUIRE(found[i].dtype() == expected[i].dtype());
        REQUIRE(found[i].shape() == expected[i].shape());
        const std::vector<float> a = toFloat32(found[i]);
        const std::vector<float> b = toFloat32(expected[i]);
        float largest = 1e-20F;
        for (float x : b) largest = std::max(largest, std::abs(x));
        for (std::size_t k = 0; k < a.size(); ++k) {
            INFO("output " << i << " element " << k);
            REQUIRE(a[k] == Approx(b[k]).margin(tolerance * largest));
        }
    }
    std::vector<std::string> kinds;
    for (const auto& row : fused.profile()) kinds.push_back(row.opType);
    return kinds;
}

bool has(const std::vector<std::string>& kinds, const std::string& kind) {
    return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

}  // namespace tcompress::test
