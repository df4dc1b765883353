// Samples made from the given ones: what stays, what changes, how often, and from what law.

#include "lib/data/enlarge.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>

#include "lib/data/calibration_data.h"
#include "lib/ir/load.h"
#include "lib/support/error.h"
#include "lib/support/random.h"

namespace {

using namespace tcompress;

constexpr std::int64_t kLength = 12;
constexpr std::int64_t kVocabulary = 500;
constexpr std::int64_t kStart = 1, kEnd = 2, kSmallest = 100;

/// Sentences [start, tokens …, end, padding …] with ids 100 … 139, the low ones more often; the sample's
/// number as a float.
data::Dataset sentences(std::int64_t samples) {
    Random random(5, "sentences");
    std::vector<std::int64_t> ids, mask;
    std::vector<float> numbers;
    for (std::int64_t sample = 0; sample < samples; ++sample) {
        const auto length = static_cast<std::int64_t>(4 + random.below(kLength - 3));
        for (std::int64_t t = 0; t < kLength; ++t) {
            const bool isEnd = t == length - 1;
            const auto token =
                static_cast<std::int64_t>(kSmallest + std::min(random.below(40), random.below(40)));
            ids.push_back(t == 0 ? kStart : isEnd ? kEnd : t < length ? token : 0);
            mask.push_back(t < length ? 1 : 0);
        }
        numbers.push_back(static_cast<float>(sample));
    }
    return data::Dataset(
        {{"input_ids", Tensor::of<std::int64_t>({samples, kLength}, ids)},
         {"attention_mask", Tensor::of<std::int64_t>({samples, kLength}, mask)},
         {"number", Tensor::of<float>({samples}, numbers)}},
        Tensor::of<std::int64_t>({samples}, std::vector<std::int64_t>(static_cast<std::size_t>(samples))),
        "sentences");
}

std::vector<std::int64_t> integers(const data::Dataset& dataset, const char* name) {
    return toInt64(dataset.arrays().at(name));
}

data::Enlargement by(std::int64_t factor, std::uint64_t seed = 7) {
    return {factor, seed, {{"input_ids", kVocabulary}}};
}

}  // namespace

TEST_CASE("made samples keep masks, ends and padding, and the given samples come first") {
    const data::Dataset given = sentences(50);
    const data::Dataset more = data::enlarged(given, by(4));
    REQUIRE(more.sampleCount() == 200);
    CHECK_FALSE(more.labels());
    const auto before = integers(given, "input_ids"), after = integers(more, "input_ids");
    CHECK(std::equal(before.begin(), before.end(), after.begin()));
    const auto mask = integers(given, "attention_mask"), masks = integers(more, "attention_mask");
    for (std::size_t i = 0; i < after.size(); ++i) {
        const std::size_t original = i % before.size();
        REQUIRE(masks[i] == mask[original]);
        const bool isInner = before[original] >= kSmallest;
        if (isInner) {
            REQUIRE(after[i] >= kSmallest);
            REQUIRE(after[i] < kVocabulary);
        } else {
            REQUIRE(after[i] == before[original]);
        }
    }
    const auto numbers = toFloat32(more.arrays().at("number"));
    for (std::size_t i = 0; i < numbers.size(); ++i) CHECK(numbers[i] == static_cast<float>(i % 50));
}

TEST_CASE("three tokens in ten are replaced, by a Zipf law that reaches the whole vocabulary") {
    const data::Dataset given = sentences(400);
    const data::Dataset more = data::enlarged(given, by(51));
    const auto before = integers(given, "input_ids"), after = integers(more, "input_ids");
    std::map<std::int64_t, double> counts;
    double inner = 0, unseen = 0;
    for (std::size_t i = before.size(); i < after.size(); ++i) {
        if (before[i % before.size()] < kSmallest) continue;
        ++inner;
        if (after[i] >= kSmallest + 40) {
            ++unseen;
            ++counts[after[i]];
        }
    }
    // Ids that the data do not have stand at ranks 41 … 400 of 1 / (rank + 2.7).
    double all = 0, tail = 0;
    for (int rank = 1; rank <= kVocabulary - kSmallest; ++rank) {
        all += 1 / (rank + 2.7);
        if (rank > 40) tail += 1 / (rank + 2.7);
    }
    CHECK(unseen / inner == Approx(0.3 * tail / all).epsilon(0.03));
    CHECK(counts.size() == kVocabulary - kSmallest - 40);
    CHECK(counts[140] / counts[280] == Approx((181 + 2.7) / (41 + 2.7)).epsilon(0.3));
}

TEST_CASE("the second part of a made sample is another sample's") {
    // One sample of 50s, one of 60s: a made sample has the one, then the other, apart from what is replaced.
    const std::int64_t length = 60;
    std::vector<std::int64_t> ids(static_cast<std::size_t>(2 * length), 50);
    std::fill(ids.begin() + length, ids.end(), 60);
    const data::Dataset given({{"input_ids", Tensor::of<std::int64_t>({2, length}, ids)}}, std::nullopt,
                              "pair");
    const auto after = integers(data::enlarged(given, {20, 3, {{"input_ids", 2000000}}}), "input_ids");
    std::int64_t spliced = 0;
    for (std::size_t sample = 2; sample < 40; ++sample) {
        const auto begin = after.begin() + static_cast<std::ptrdiff_t>(sample) * length, end = begin + length;
        const std::int64_t own = sample % 2 == 0 ? 50 : 60, other = 110 - own;
        CHECK(begin[0] == own);
        CHECK(end[-1] == own);
        // Behind the first run of the partner's tokens none of the sample's own follow, bar single
        // replacements.
        const auto share = [&](auto from, auto to, std::int64_t id) {
            return static_cast<double>(std::count(from, to, id)) / static_cast<double>(to - from);
        };
        const auto cut = std::search_n(begin, end, 4, other);
        if (cut == end || end - cut < 12) continue;
        ++spliced;
        CHECK(share(cut, end - 1, other) > 0.3);
        CHECK(share(cut, end - 1, own) < 0.3);
    }
    CHECK(spliced > 5);
}

TEST_CASE("the same seed makes the same samples, another one others") {
    const data::Dataset given = sentences(20);
    const auto first = integers(data::enlarged(given, by(3)), "input_ids");
    CHECK(integers(data::enlarged(given, by(3)), "input_ids") == first);
    CHECK(integers(data::enlarged(given, by(3, 8)), "input_ids") != first);
    CHECK(integers(data::enlarged(given, by(1)), "input_ids") == integers(given, "input_ids"));
}

TEST_CASE("only token ids are enlarged, and which inputs those are is the model's to say") {
    const data::Dataset images({{"pixels", Tensor::of<float>({1, 2}, {1, 2})}}, std::nullopt, "images.npz");
    CHECK_THROWS_WITH(data::enlarged(images, by(2)),
                      Catch::Contains("images.npz") && Catch::Contains("token ids"));
    const ir::Model model = ir::fromText(R"(
<ir_version: 10, opset_import: ["" : 18]>
agraph (int64[N, T] input_ids, int64[N, T] token_type_ids, float[N, T] x) => (float[N, T, 2] y)
<float[3, 2] words = {0, 0, 1, 1, 2, 2}, float[2, 2] types = {0, 0, 1, 1}> {
    a = Gather(words, input_ids)
    b = Gather(types, token_type_ids)
    y = Add(a, b)
}
)");
    CHECK(data::vocabularies(model) == std::map<std::string, std::int64_t>{{"input_ids", 3}});
}

TEST_CASE("pictures are moved and mixed, what was given stays") {
    std::vector<float> pixels;
    Random random(1, "pixels");
    for (int i = 0; i < 5 * 2 * 16 * 16; ++i) pixels.push_back(static_cast<float>(random.below(37)));
    const data::Dataset given({{"image", Tensor::of<float>({5, 2, 16, 16}, std::span<const float>(pixels))}},
                              std::nullopt, "images.npz");
    const data::Enlargement how{4, 3, {}, {"image"}};
    const Tensor made = data::enlarged(given, how).arrays().at("image");
    REQUIRE(made.shape() == Shape{20, 2, 16, 16});
    const auto values = made.data<float>();
    CHECK(std::equal(pixels.begin(), pixels.end(), values.begin()));
    for (const float value : values) CHECK((value >= 0 && value <= 36));
    const auto copies = std::search(values.begin() + 1, values.end(), pixels.begin(), pixels.begin() + 512);
    CHECK(copies == values.end());
    const Tensor again = data::enlarged(given, how).arrays().at("image");
    CHECK(std::equal(values.begin(), values.end(), again.data<float>().begin()));
    const std::filesystem::path models = std::filesystem::path(TCOMPRESS_TEST_DATA) / "models";
    CHECK(data::imageInputs(ir::load(models / "vit_digits.onnx")).size() == 1);
    CHECK(data::imageInputs(ir::load(models / "gpt2_char_kv.onnx")).empty());
}

TEST_CASE("samples are made of those to fit to, never of those held back") {
    const data::CalibrationData calibration(sentences(20), by(3));
    CHECK(calibration.all().sampleCount() == 60);
    const data::Split parts = calibration.split(0.25);
    CHECK(parts.heldBack.sampleCount() == 5);
    REQUIRE(parts.fit.sampleCount() == 45);
    const auto held = toFloat32(parts.heldBack.arrays().at("number"));
    for (const float number : toFloat32(parts.fit.arrays().at("number")))
        CHECK(std::find(held.begin(), held.end(), number) == held.end());
}

TEST_CASE("held-back samples are spread evenly and share nothing with the rest") {
    const data::Dataset given = sentences(23);
    const data::Split parts = data::split(given, 0.25);
    CHECK(parts.fit.sampleCount() == 18);
    CHECK(parts.heldBack.sampleCount() == 5);
    CHECK(toFloat32(parts.heldBack.arrays().at("number")) == std::vector<float>{3, 7, 11, 15, 19});
    CHECK(parts.heldBack.labels()->size() == 5);
    CHECK(data::split(given, 0).heldBack.sampleCount() == 0);
    CHECK(data::split(given.head(3), 0.25).fit.sampleCount() == 3);
}
