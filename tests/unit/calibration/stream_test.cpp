// Blocks run one by one on kept activations give what the whole model gives, before and after edits, wherever
// the activations are kept.

#include "lib/calibration/stream.h"

#include <catch2/catch.hpp>
#include <filesystem>

#include "lib/calibration/channel_statistics.h"
#include "lib/calibration/collector.h"
#include "lib/calibration/moments.h"
#include "lib/ir/edit.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/support/random.h"
#include "tests/support/files.h"
#include "tests/support/judge.h"
#include "tests/unit/calibration/counter.h"

namespace {

using namespace tcompress;
using namespace tcompress::calibration;
using test::Counter;

/// Three blocks h = h + Relu(h · w) with a mask made once from an input; each reads the mask.
ir::Model blocks() {
    return ir::fromText(R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (float[N, T, 3] x, int64[N, T] attention_mask) => (float[N, T, 3] h3)
<float[3, 3] w1 = {0.5, 0, 1, 0, 1, 0, -1, 0, 0.5}, float[3, 3] w2 = {1, 1, 0, 0, -1, 0, 0, 0.25, 1},
 float[3, 3] w3 = {0, 0.5, 0, 1, 0, 0, 0, 0, -2}, int64[1] last = {2}> {
    m = Cast<to = 1>(attention_mask)
    mask = Unsqueeze(m, last)
    l1 = MatMul(x, w1)
    r1 = Relu(l1)
    k1 = Mul(r1, mask)
    h1 = Add(x, k1)
    l2 = MatMul(h1, w2)
    r2 = Relu(l2)
    k2 = Mul(r2, mask)
    h2 = Add(h1, k2)
    l3 = MatMul(h2, w3)
    r3 = Relu(l3)
    k3 = Mul(r3, mask)
    h3 = Add(h2, k3)
}
)");
}

data::Dataset samples(std::int64_t count) {
    Random random(4, "stream");
    constexpr std::int64_t kLength = 30;
    std::vector<float> x(static_cast<std::size_t>(count * kLength * 3));
    for (float& value : x) value = static_cast<float>(random.normal());
    std::vector<std::int64_t> mask(static_cast<std::size_t>(count * kLength));
    for (std::size_t i = 0; i < mask.size(); ++i)
        mask[i] = static_cast<std::int64_t>(i % kLength) < 10 ? 1 : 0;
    return data::Dataset({{"x", Tensor::of<float>({count, kLength, 3}, x)},
                          {"attention_mask", Tensor::of<std::int64_t>({count, kLength}, mask)}},
                         std::nullopt, "samples");
}

const ir::Value* named(const ir::Model& model, const char* name) { return model.graph().find(name); }

std::vector<double> gramOf(const ir::Model& model, Stream& stream, const char* value) {
    Collector collector(model);
    auto& sums = collector.add<MomentSums>(MomentsRequest{named(model, value)});
    collector.run(stream, silentProgress());
    return sums.take().gram;
}

std::vector<double> gramOf(const ir::Model& model, const data::Dataset& dataset, const char* value) {
    Stream stream(model, dataset);
    return gramOf(model, stream, value);
}

void setWeights(ir::Model& model, const char* name, const std::vector<float>& weights) {
    ir::Edit edit(model, "test");
    edit.setConstant(model.graph().find(name), Tensor::of<float>({3, 3}, weights));
    edit.commit();
}

}  // namespace

TEST_CASE("statistics behind a cut are those of the whole model, in memory and from a file") {
    const ir::Model model = blocks();
    const data::Dataset dataset = samples(200);
    for (const std::uint64_t limit : {std::uint64_t{0}, std::uint64_t{20000}, std::uint64_t{1} << 30}) {
        Stream stream(model, dataset, {limit});
        stream.advance({{named(model, "h1")}}, silentProgress());
        const std::uint64_t bytes = 200 * 30 * 3 * sizeof(float);
        CHECK(stream.store().memoryBytes() + stream.store().fileBytes() == bytes);
        CHECK(stream.store().memoryBytes() <= limit);
        CHECK((stream.store().fileBytes() > 0) == (limit < bytes));
        CHECK(gramOf(model, stream, "h2") == gramOf(model, dataset, "h2"));
        stream.advance({{named(model, "h2")}}, silentProgress());
        // Room in the file is used again.
        CHECK(stream.store().memoryBytes() + stream.store().fileBytes() == bytes);
        CHECK(gramOf(model, stream, "r3") == gramOf(model, dataset, "r3"));
        CHECK(gramOf(model, stream, "h2") == gramOf(model, dataset, "h2"));
        stream.advance({}, silentProgress());
        CHECK(gramOf(model, stream, "r1") == gramOf(model, dataset, "r1"));
    }
}

TEST_CASE("a stream sees the edits of the blocks that it passed, and only from the cut on") {
    const ir::Model original = blocks();
    ir::Model edited = original.clone();
    const data::Dataset dataset = samples(40);
    Stream stream(original, edited, dataset);
    setWeights(edited, "w1", {2, 0, 0, 0, 2, 0, 0, 0, 2});
    stream.advance({{named(edited, "h1")}, {named(original, "h1")}}, silentProgress());
    // Behind the cut: what is edited in front of it now does not count.
    const std::vector<double> expected = gramOf(edited, dataset, "h2");
    setWeights(edited, "w1", {7, 7, 7, 7, 7, 7, 7, 7, 7});
    const std::vector<MomentsRequest> requests{
        {named(edited, "h2"), {{{1, {named(original, "h2"), Side::original}}}}}};
    const std::vector<Moments> moments = collectMoments(stream, requests, silentProgress());
    CHECK(moments.at(0).gram == expected);
    CHECK(moments[0].targets.at(0).squares[1] == Approx(gramOf(original, dataset, "h2")[4]));
    CHECK(moments[0].gram != gramOf(original, dataset, "h2"));
}

namespace {

/// Blocks edited one after another, each on what the edited ones before it give.
std::vector<std::vector<double>> walked(float firstEdit, const std::filesystem::path& folder, Counter& counter) {
    ir::Model model = blocks();
    Stream stream(model, samples(40), {.cacheFolder = folder});
    const auto collected = [&](const char* value) {
        Collector collector(model);
        auto& sums = collector.add<MomentSums>(MomentsRequest{named(model, value)});
        collector.run(stream, counter);
        return sums.take().gram;
    };
    std::vector<std::vector<double>> grams{collected("r1")};
    setWeights(model, "w1", {firstEdit, 0, 0, 0, 2, 0, 0, 0, 2});
    stream.moveTo({{named(model, "h1")}});
    grams.push_back(collected("r2"));
    setWeights(model, "w2", {1, 0, 1, 0, 2, 0, 0, 0, -2});
    stream.moveTo({{named(model, "h2")}});
    grams.push_back(collected("r3"));
    return grams;
}

}  // namespace

TEST_CASE("statistics of edited blocks are kept from run to run, and nothing runs for them again") {
    const test::ScratchFolder folder;
    Counter without, cold, warm, other, damaged;
    const auto expected = walked(2, {}, without);
    CHECK(walked(2, folder.path(), cold) == expected);
    CHECK(cold.runs == without.runs);
    CHECK(walked(2, folder.path(), warm) == expected);
    CHECK(warm.runs == 0);
    // Another edit of the first block: what comes behind it is another model's.
    const auto changed = walked(3, folder.path(), other);
    CHECK(changed[0] == expected[0]);
    CHECK(changed[1] != expected[1]);
    CHECK(changed[2] != expected[2]);
    CHECK(other.runs == without.runs - 1);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
        test::writeFile(entry.path(), test::readFile(entry.path()).substr(0, 100));
    CHECK(walked(2, folder.path(), damaged) == expected);
    CHECK(damaged.runs == without.runs);
}

TEST_CASE("a stream catches up with the only statistic that the cache lacks") {
    const test::ScratchFolder folder;
    Counter cold;
    const auto expected = walked(2, folder.path(), cold);
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) files.push_back(entry.path());
    REQUIRE(files.size() == 3);
    for (const auto& file : files) {
        const std::string whole = test::readFile(file);
        std::filesystem::remove(file);
        Counter counter;
        CHECK(walked(2, folder.path(), counter) == expected);
        CHECK(counter.runs > 0);
        CHECK((test::readFile(file) == whole));
    }
}

TEST_CASE("stored tensors come back whole, and free room is used again") {
    TensorStore store(100);
    const Tensor small = Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
    const Tensor large = Tensor::of<std::int64_t>({16}, std::vector<std::int64_t>(16, -5));
    const TensorStore::Slot first = store.add(small), second = store.add(large),
                            third = store.add(Tensor(DType::float32, {0, 4}));
    CHECK(store.memoryBytes() == 24);
    CHECK(store.fileBytes() == 128);
    CHECK(toFloat32(store.get(first)) == toFloat32(small));
    CHECK(store.get(second).dtype() == DType::int64);
    CHECK(toInt64(store.get(second)) == toInt64(large));
    CHECK(store.get(third).shape() == Shape{0, 4});
    store.replace(first, large);
    store.replace(second, small);
    CHECK(store.memoryBytes() == 24);
    CHECK(store.fileBytes() == 256);
    const TensorStore::Slot fourth = store.add(large);
    CHECK(store.fileBytes() == 256);
    CHECK(toInt64(store.get(fourth)) == toInt64(large));
    CHECK(toInt64(store.get(first)) == toInt64(large));
    CHECK(toFloat32(store.get(second)) == toFloat32(small));
    TensorStore nowhere(0, "/nonexistent/folder");
    CHECK_THROWS_WITH(nowhere.add(small),
                      Catch::Contains("/nonexistent/folder") && Catch::Contains("TMPDIR"));
}
