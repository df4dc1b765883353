// Every kind of statistic, on a model and data large enough to be shared between threads, has the same bytes
// for any number of them.

#include <fmt/core.h>
#include <catch2/catch.hpp>

#include "lib/calibration/archive.h"
#include "lib/calibration/channel_statistics.h"
#include "lib/calibration/collector.h"
#include "lib/calibration/histogram.h"
#include "lib/calibration/moments.h"
#include "lib/calibration/outliers.h"
#include "lib/calibration/similarity.h"
#include "lib/calibration/token_counts.h"
#include "lib/calibration/value_range.h"
#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"

namespace {

using namespace tcompress;
using namespace tcompress::calibration;

constexpr std::int64_t kWidth = 320;

Tensor weights(std::int64_t rows, std::int64_t columns, const char* name) {
    Random random(2, name);
    Tensor tensor(DType::float32, {rows, columns});
    for (float& value : tensor.mutableData<float>()) value = static_cast<float>(random.normal() * 0.1);
    return tensor;
}

ir::Model model(const char* seed) {
    ir::Model model = ir::fromText(fmt::format(R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (int64[N, T] input_ids, int64[N, T] attention_mask) => (float[N, T, {0}] y)
<float[1, 1] table = {{0}}, float[1, 1] w = {{0}}> {{
    x = Gather(table, input_ids)
    h = MatMul(x, w)
    r = Relu(h)
    y = Add(x, r)
}}
)",
                                               kWidth));
    ir::Edit edit(model, "test");
    edit.setConstant(model.graph().find("table"), weights(100, kWidth, "table"));
    edit.setConstant(model.graph().find("w"), weights(kWidth, kWidth, seed));
    edit.commit();
    return model;
}

data::Dataset tokens(std::int64_t samples, std::int64_t length) {
    Random random(3, "tokens");
    std::vector<std::int64_t> ids, mask;
    for (std::int64_t i = 0; i < samples * length; ++i) {
        ids.push_back(static_cast<std::int64_t>(random.below(100)));
        mask.push_back(i % length < 5 + i / length % 50 ? 1 : 0);
    }
    return data::Dataset({{"input_ids", Tensor::of<std::int64_t>({samples, length}, ids)},
                          {"attention_mask", Tensor::of<std::int64_t>({samples, length}, mask)}},
                         std::nullopt, "tokens");
}

std::vector<std::vector<std::byte>> statistics(const ir::Model& original, const ir::Model& edited,
                                               const data::Dataset& data) {
    const auto value = [&](const char* name) { return edited.graph().find(name); };
    const Source dense(original.graph().find("y"), Side::original);
    Collector collector(original, edited);
    const std::vector<Statistic*> all{
        &collector.add<MomentSums>(MomentsRequest{value("h"), {{{1, dense}, {-1, value("x")}}}}),
        &collector.add<ChannelSums>(value("h")),
        &collector.add<HistogramCounts>(value("r")),
        &collector.add<MinMaxRange>(value("y")),
        &collector.add<MovingRange>(value("y")),
        &collector.add<ChannelRanges>(value("y")),
        &collector.add<TopOutliers>(value("h"), 20),
        &collector.add<TokenCounts>(value("input_ids")),
        &collector.add<SimilaritySums>(dense, value("y")),
    };
    collector.run(data, silentProgress());
    std::vector<std::vector<std::byte>> bytes;
    for (Statistic* statistic : all) {
        Archive archive;
        statistic->transfer(archive);
        bytes.push_back(archive.take());
    }
    return bytes;
}

}  // namespace

TEST_CASE("every statistic has the same bytes for any number of threads") {
    struct Restore {
        ~Restore() { setThreadCount(0); }
    } restore;
    const ir::Model original = model("first"), edited = model("second");
    const data::Dataset data = tokens(60, 55);
    setThreadCount(1);
    const auto expected = statistics(original, edited, data);
    for (const int threads : {2, 3, 8}) {
        setThreadCount(threads);
        const auto found = statistics(original, edited, data);
        for (std::size_t i = 0; i < found.size(); ++i) {
            INFO("statistic " << i << ", " << threads << " threads");
            CHECK((found[i] == expected[i]));
        }
    }
}
