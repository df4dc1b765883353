// Statistics against their definitions on what the model computes, with padding left out, for batches and
// threads that cut the data differently.

#include "lib/calibration/collector.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "lib/calibration/channel_statistics.h"
#include "lib/calibration/moments.h"
#include "lib/calibration/similarity.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/support/parallel.h"
#include "lib/support/random.h"

namespace {

using namespace tcompress;
using namespace tcompress::calibration;

/// Tokens of `embedding`, a linear layer, a residual sum; the same rows as [samples · tokens, channels].
ir::Model tokenModel(float weight = 2) {
    const std::string text = R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (int64[N, T] input_ids, int64[N, T] attention_mask) => (float[N, T, 3] y, float[M, 3] flat, float[N, T] mask)
<float[6, 3] table = {0, 0, 0, 1, -2, 3, 4, 5, 6, -7, 8, 9, 0.5, 1.5, -2.5, 3, 3, 3},
 float[3, 3] w = {)" + std::to_string(weight) +
                             R"(, 0, 1, 0, 1, 0, -1, 0, 1}, int64[2] rows = {-1, 3}> {
    x = Gather(table, input_ids)
    h = MatMul(x, w)
    y = Add(x, h)
    flat = Reshape(h, rows)
    mask = Cast<to = 1>(attention_mask)
}
)";
    return ir::fromText(text);
}

struct Tokens {
    data::Dataset dataset;
    std::vector<std::vector<double>> kept;  ///< the table's rows of every real token, in order
};

/// Sentences of random length behind which there is padding.
Tokens tokens(std::int64_t samples, std::int64_t length) {
    const double table[6][3] = {{0, 0, 0}, {1, -2, 3}, {4, 5, 6}, {-7, 8, 9}, {0.5, 1.5, -2.5}, {3, 3, 3}};
    Random random(3, "tokens");
    Tokens result;
    std::vector<std::int64_t> ids, mask;
    for (std::int64_t sample = 0; sample < samples; ++sample) {
        const auto real = static_cast<std::int64_t>(1 + random.below(static_cast<std::uint64_t>(length)));
        for (std::int64_t t = 0; t < length; ++t) {
            ids.push_back(static_cast<std::int64_t>(1 + random.below(5)));
            mask.push_back(t < real ? 1 : 0);
            if (t < real) result.kept.push_back({table[ids.back()], table[ids.back()] + 3});
        }
    }
    result.dataset = data::Dataset({{"input_ids", Tensor::of<std::int64_t>({samples, length}, ids)},
                                    {"attention_mask", Tensor::of<std::int64_t>({samples, length}, mask)}},
                                   std::nullopt, "test");
    return result;
}

std::vector<double> linear(const std::vector<double>& x, double weight) {
    return {weight * x[0] - x[2], x[1], x[0] + x[2]};
}

const ir::Value* named(const ir::Model& model, const char* name) { return model.graph().find(name); }

void checkEqual(const std::vector<double>& found, const std::vector<double>& expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == Approx(expected[i]).margin(1e-5));
}

class RowCount : public Statistic {
  public:
    RowCount(Source source, RowsSeen seen) : source_(source), seen_(seen) {}
    std::vector<Source> sources() const override { return {source_}; }
    RowsSeen rowsSeen() const override { return seen_; }
    void add(std::span<const Rows> sources) override { rows += sources.front().rows; }

    std::int64_t rows = 0;

  private:
    Source source_;
    RowsSeen seen_;
};

struct RestoreThreads {
    ~RestoreThreads() { setThreadCount(0); }
};

}  // namespace

TEST_CASE("channel statistics leave out padding, in tokens and in flattened rows") {
    const ir::Model model = tokenModel();
    const Tokens data = tokens(70, 5);
    Collector collector(model);
    const auto& counted = collector.add<RowCount>(named(model, "x"), RowsSeen::tokens);
    const auto& all = collector.add<RowCount>(named(model, "x"), RowsSeen::all);
    const auto& x = collector.add<ChannelSums>(named(model, "x"));
    const auto& flat = collector.add<ChannelSums>(named(model, "flat"));
    const auto& ids = collector.add<ChannelSums>(named(model, "input_ids"));
    collector.run(data.dataset, silentProgress());
    std::vector<double> mean(3), absolute(3), square(3), maximum(3), flatMean(3);
    const auto rows = static_cast<double>(data.kept.size());
    for (const auto& row : data.kept)
        for (std::size_t c = 0; c < 3; ++c) {
            mean[c] += row[c] / rows;
            absolute[c] += std::abs(row[c]) / rows;
            square[c] += row[c] * row[c] / rows;
            maximum[c] = std::max(maximum[c], std::abs(row[c]));
            flatMean[c] += linear(row, 2)[c] / rows;
        }
    const ChannelStatistics found = x.result();
    CHECK(found.rows == static_cast<std::int64_t>(data.kept.size()));
    CHECK(counted.rows == found.rows);
    CHECK(all.rows == 70 * 5);
    checkEqual(found.mean, mean);
    checkEqual(found.meanAbsolute, absolute);
    checkEqual(found.meanSquare, square);
    checkEqual(found.absoluteMaximum, maximum);
    CHECK(flat.result().rows == found.rows);
    checkEqual(flat.result().mean, flatMean);
    // Integers: one row an element.
    CHECK(ids.result().rows == found.rows);
    CHECK(ids.result().mean.size() == 1);
}

TEST_CASE("moments of two models in lock-step are those of their rows") {
    const ir::Model original = tokenModel(2), edited = tokenModel(5);
    const Tokens data = tokens(40, 7);
    Collector collector(original, edited);
    // Y = original's y − 2 · edited's x, and the edited model's own layer.
    const Target mixed{{1, {named(original, "y"), Side::original}}, {-2, named(edited, "x")}};
    auto& sums =
        collector.add<MomentSums>(MomentsRequest{named(edited, "h"), {mixed, {{1, named(edited, "h")}}}});
    collector.run(data.dataset, silentProgress());
    const Moments moments = sums.take();

    Moments expected;
    expected.gram.resize(9);
    expected.sum.resize(3);
    Moments::Cross cross{3, std::vector<double>(3), std::vector<double>(3), std::vector<double>(9)};
    for (const auto& row : data.kept) {
        const std::vector<double> x = linear(row, 5), layer = linear(row, 2);
        for (std::size_t c = 0; c < 3; ++c) {
            const double y = row[c] + layer[c] - 2 * row[c];
            for (std::size_t i = 0; i < 3; ++i) {
                expected.gram[i * 3 + c] += x[i] * x[c];
                cross.product[i * 3 + c] += x[i] * y;
            }
            expected.sum[c] += x[c];
            cross.sum[c] += y;
            cross.squares[c] += y * y;
        }
    }
    CHECK(moments.rows == static_cast<std::int64_t>(data.kept.size()));
    REQUIRE(moments.inputs == 3);
    checkEqual(moments.sum, expected.sum);
    checkEqual(moments.gram, expected.gram);
    REQUIRE(moments.targets.size() == 2);
    checkEqual(moments.targets[0].sum, cross.sum);
    checkEqual(moments.targets[0].squares, cross.squares);
    checkEqual(moments.targets[0].product, cross.product);
    checkEqual(moments.targets[1].product, moments.gram);
}

TEST_CASE("rows held back and rows to fit to add up to all rows") {
    const ir::Model model = tokenModel();
    const Tokens data = tokens(33, 6);
    const std::vector<MomentsRequest> requests{
        {named(model, "x"), {{{1, {named(model, "y"), Side::original}}}}}};
    const data::Split split = data::split(data.dataset, 0.2);
    CHECK(split.heldBack.sampleCount() == 6);
    std::vector<SplitMoments> parts = collectMoments(model, model, requests, split, silentProgress());
    const std::vector<SplitMoments> whole =
        collectMoments(model, model, requests, {data.dataset, {}}, silentProgress());
    REQUIRE(parts.size() == 1);
    CHECK(parts[0].heldBack.rows > 0);
    CHECK(whole[0].heldBack.rows == 0);
    parts[0].fit += parts[0].heldBack;
    CHECK(parts[0].fit.rows == whole[0].fit.rows);
    checkEqual(parts[0].fit.gram, whole[0].fit.gram);
    checkEqual(parts[0].fit.targets[0].product, whole[0].fit.targets[0].product);
    checkEqual(parts[0].fit.targets[0].squares, whole[0].fit.targets[0].squares);
}

TEST_CASE("similarity of a value with another, across models") {
    const ir::Model original = tokenModel(2), edited = tokenModel(5);
    const Tokens data = tokens(10, 4);
    Collector collector(original, edited);
    const auto& layers =
        collector.add<SimilaritySums>(Source(named(original, "h"), Side::original), named(edited, "h"));
    collector.run(data.dataset, silentProgress());
    double cosines = 0, difference = 0, squared = 0;
    for (const auto& row : data.kept) {
        const std::vector<double> a = linear(row, 2), b = linear(row, 5);
        double dot = 0, aa = 0, bb = 0;
        for (std::size_t c = 0; c < 3; ++c) {
            dot += a[c] * b[c];
            aa += a[c] * a[c];
            bb += b[c] * b[c];
            difference += (a[c] - b[c]) * (a[c] - b[c]);
        }
        squared += aa;
        cosines += dot / std::sqrt(aa * bb);
    }
    CHECK(layers.result().meanCosine() == Approx(cosines / static_cast<double>(data.kept.size())));
    CHECK(layers.result().relativeError() == Approx(difference / squared));
    const std::vector<double> influence =
        blockInfluence(edited, data.dataset, {{named(edited, "x"), named(edited, "x")}}, silentProgress());
    CHECK(influence.at(0) == Approx(0).margin(1e-9));
}

TEST_CASE("statistics are the same bytes for any number of threads") {
    RestoreThreads restore;
    const ir::Model model = tokenModel();
    const Tokens data = tokens(700, 9);
    std::vector<Moments> moments;
    std::vector<ChannelStatistics> channels;
    for (const int threads : {1, 2, 3, 8}) {
        setThreadCount(threads);
        Collector collector(model);
        auto& sums = collector.add<MomentSums>(MomentsRequest{named(model, "h"), {{{1, named(model, "y")}}}});
        auto& means = collector.add<ChannelSums>(named(model, "h"));
        collector.run(data.dataset, silentProgress());
        moments.push_back(sums.take());
        channels.push_back(means.result());
        CHECK(moments.back().gram == moments.front().gram);
        CHECK(moments.back().targets[0].product == moments.front().targets[0].product);
        CHECK(channels.back().meanAbsolute == channels.front().meanAbsolute);
    }
}

TEST_CASE("a value that is not finite is named, unless only padding is") {
    const ir::Model model = ir::fromText(R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[N, T, 2] x, int64[N, T] attention_mask) => (float[N, T, 2] y) { y = Reciprocal(x) }
)");
    const auto run = [&](std::int64_t lastToken) {
        const data::Dataset dataset({{"x", Tensor::of<float>({1, 2, 2}, {1, 2, 4, 0})},
                                     {"attention_mask", Tensor::of<std::int64_t>({1, 2}, {1, lastToken})}},
                                    std::nullopt, "test");
        Collector collector(model);
        const auto& y = collector.add<ChannelSums>(named(model, "y"));
        collector.run(dataset, silentProgress());
        return y.result().mean;
    };
    CHECK(run(0) == std::vector<double>{1, 0.5});
    CHECK_THROWS_WITH(run(1), Catch::Contains("value 'y' is not finite"));
}

TEST_CASE("a model with a fixed batch runs on every full batch") {
    const ir::Model model = ir::fromText(R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[2, 1] x) => (float[2, 1] y) { y = Neg(x) }
)");
    const data::Dataset dataset({{"x", Tensor::of<float>({5, 1}, {1, 2, 3, 4, 100})}}, std::nullopt, "test");
    Collector collector(model);
    const auto& y = collector.add<ChannelSums>(named(model, "y"));
    collector.run(dataset, silentProgress());
    CHECK(y.result().rows == 4);
    CHECK(y.result().mean == std::vector<double>{-2.5});
    CHECK_THROWS_WITH(collector.run(dataset.head(1), silentProgress()),
                      Catch::Contains("1 samples") && Catch::Contains("fixed to 2"));
}
