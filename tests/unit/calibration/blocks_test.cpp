// Real architectures block by block: what is computed from the residual stream between two blocks is what the
// whole model computes, for every model of the zoo, and no block in front of the cut runs again.

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>

#include "lib/analysis/transformer_view.h"
#include "lib/calibration/channel_statistics.h"
#include "lib/calibration/collector.h"
#include "lib/calibration/stream.h"
#include "lib/data/inputs.h"
#include "lib/ir/load.h"

namespace {

using namespace tcompress;
using namespace tcompress::calibration;

/// Mean squares of the channels of a value, from the stream's cut.
std::vector<double> meanSquares(Stream& stream, const ir::Value* value) {
    Collector collector(stream);
    const auto& sums = collector.add<ChannelSums>(value);
    collector.run(stream, silentProgress());
    return sums.result().meanSquare;
}

void checkClose(const std::vector<double>& found, const std::vector<double>& expected) {
    REQUIRE(found.size() == expected.size());
    REQUIRE_FALSE(expected.empty());
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
        largest = std::max(largest, expected[i]);
        worst = std::max(worst, std::fabs(found[i] - expected[i]));
    }
    CHECK(worst <= 1e-5 * largest);
}

/// Three samples of 12 tokens, empty caches.
data::Dataset samplesFor(const ir::Model& model) {
    std::map<std::string, std::int64_t> sizes;
    for (const data::InputInfo& input : data::modelInputs(model))
        for (const data::InputDim& dim : input.dims)
            if (data::inputRole(input.name) != data::InputRole::pastKeyValue) sizes[dim.symbol] = 12;
    return data::syntheticDataset(model, 3, 1, sizes);
}

/// Matrix products between the cut and the value.
std::int64_t productsRun(const Stream& stream, const ir::Value* value) {
    exec::Executor executor(*stream.model(Side::edited),
                            {exec::Fusion::none, stream.cut(Side::edited), {{value}}});
    executor.run(stream.feeds(Side::edited, 0));
    std::int64_t count = 0;
    for (const auto& row : executor.profile())
        if (row.opType == "MatMul" || row.opType == "Gemm" || row.opType == "Attention") count += row.calls;
    return count;
}

}  // namespace

TEST_CASE("every model of the zoo runs block by block") {
    int models = 0;
    for (const auto& entry : std::filesystem::directory_iterator(TCOMPRESS_TEST_DATA "/models")) {
        if (entry.path().extension() != ".onnx") continue;
        INFO(entry.path().filename().string());
        const ir::Model model = ir::load(entry.path());
        const analysis::TransformerView view = analysis::recognise(model);
        REQUIRE(view.blocks.size() >= 2);
        ++models;
        const data::Dataset samples = samplesFor(model);
        Stream whole(model, samples);
        Stream stream(model, samples);
        std::int64_t productsBefore = 0;
        for (std::size_t i = 0; i < view.blocks.size(); ++i) {
            const analysis::Block& block = view.blocks[i];
            REQUIRE((block.input && block.output));
            INFO("block " << i);
            checkClose(meanSquares(stream, block.output), meanSquares(whole, block.output));
            const std::int64_t products = productsRun(stream, block.output);
            if (i > 1) CHECK(products == productsBefore);
            productsBefore = products;
            stream.advance({{block.output}}, silentProgress());
        }
    }
    CHECK(models >= 9);
}
