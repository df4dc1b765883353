// Two and three levels against every possible choice, and what the quantizer makes of them.

#include "passes/quantize/grid/few_levels.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/support/random.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

struct Group {
    std::vector<float> weights, importance;
};

Group randomGroup(std::size_t n, std::uint64_t seed) {
    Random random(seed, "group");
    Group group;
    for (std::size_t i = 0; i < n; ++i) {
        group.weights.push_back(static_cast<float>(random.normal() + 0.5));
        group.importance.push_back(static_cast<float>(random.uniform()));
    }
    return group;
}

/// Error when each weight takes the level that `level` names (0 … levels − 1) times its best multiplier;
/// `free`: the levels are means of their weights, else 0, 1 and −1 times one number.
double errorOf(const Group& group, const std::vector<int>& signs) {
    double product = 0, squares = 0, error = 0;
    for (std::size_t i = 0; i < signs.size(); ++i) {
        product += group.importance[i] * group.weights[i] * signs[i];
        squares += group.importance[i] * signs[i] * signs[i];
    }
    const double m = squares > 0 ? product / squares : 0;
    for (std::size_t i = 0; i < signs.size(); ++i)
        error += group.importance[i] * std::pow(group.weights[i] - m * signs[i], 2);
    return error;
}

double errorOfMeans(const Group& group, const std::vector<int>& sides) {
    double error = 0;
    for (const int side : {0, 1}) {
        double sum = 0, weight = 0;
        for (std::size_t i = 0; i < sides.size(); ++i) {
            if (sides[i] != side) continue;
            sum += group.importance[i] * group.weights[i];
            weight += group.importance[i];
        }
        for (std::size_t i = 0; i < sides.size(); ++i)
            if (sides[i] == side) error += group.importance[i] * std::pow(group.weights[i] - sum / weight, 2);
    }
    return error;
}

/// The least of `error` over all ways to give n weights one of the levels.
template <class Error>
double leastOfAll(std::size_t n, const std::vector<int>& levels, const Error& error) {
    double least = HUGE_VAL;
    const auto ways = static_cast<std::size_t>(std::pow(levels.size(), n));
    for (std::size_t way = 0; way < ways; ++way) {
        std::vector<int> chosen;
        for (std::size_t i = 0, rest = way; i < n; ++i, rest /= levels.size())
            chosen.push_back(levels[rest % levels.size()]);
        least = std::min(least, error(chosen));
    }
    return least;
}

double nearestError(const Group& group, const std::vector<double>& levels) {
    double sum = 0;
    for (std::size_t i = 0; i < group.weights.size(); ++i) {
        double least = HUGE_VAL;
        for (const double level : levels) least = std::min(least, std::pow(group.weights[i] - level, 2));
        sum += group.importance[i] * least;
    }
    return sum;
}

QuantizationRule ruleOf(int bits, Symmetry symmetry, DType scaleType) {
    QuantizationRule rule;
    rule.bits = bits;
    rule.symmetry = symmetry;
    rule.range = RangeChoice::mse;
    rule.scaleType = scaleType;
    return rule;
}

}  // namespace

TEST_CASE("Two and three levels are the best of all choices") {
    const std::uint64_t seed = GENERATE(range(0, 12));
    const Group group = randomGroup(8, seed);
    FewLevels levels;
    const double m = levels.binaryMagnitude(group.weights, group.importance);
    CHECK(nearestError(group, {-m, m}) ==
          Approx(leastOfAll(8, {-1, 1}, [&](const auto& signs) { return errorOf(group, signs); })));
    const double t = levels.ternaryMagnitude(group.weights, group.importance);
    CHECK(nearestError(group, {-t, 0, t}) ==
          Approx(leastOfAll(8, {-1, 0, 1}, [&](const auto& signs) { return errorOf(group, signs); })));
    const BinaryGrid grid = levels.binaryLevels(group.weights, group.importance);
    CHECK(nearestError(group, {(0 - grid.zero) * grid.scale, (1 - grid.zero) * grid.scale}) ==
          Approx(leastOfAll(8, {0, 1}, [&](const auto& sides) { return errorOfMeans(group, sides); })).epsilon(1e-4));
}

TEST_CASE("Groups of one value and of zeros are exact where they can be") {
    FewLevels levels;
    const std::vector<float> same(5, -0.75F), zeros(5, 0.0F), alike(5, 1.0F);
    const BinaryGrid grid = levels.binaryLevels(same, alike);
    CHECK((0 - grid.zero) * grid.scale == -0.75F);
    CHECK(levels.binaryMagnitude(same, alike) == 0.75F);
    CHECK(levels.ternaryMagnitude(same, alike) == 0.75F);
    CHECK(levels.ternaryMagnitude(zeros, alike) == 0);
    for (const Symmetry symmetry : {Symmetry::asymmetric, Symmetry::balanced})
        for (const int bits : {1, 2}) {
            const auto quantized = quantizeWeights(zeros, groupedLayout({5, 1}, 0, 3),
                                                   ruleOf(bits, symmetry, DType::float16));
            REQUIRE(quantized);
            for (const float value : dequantizeWeights(*quantized)) CHECK(std::fabs(value) < 1e-6F);
        }
}

TEST_CASE("Codes of few levels are the nearest levels, with scales as they are stored") {
    const int bits = GENERATE(1, 2);
    const Symmetry symmetry = GENERATE(Symmetry::asymmetric, Symmetry::balanced);
    if (bits == 2 && symmetry == Symmetry::asymmetric) return;  // four levels
    const DType scaleType = GENERATE(DType::float16, DType::float32);
    const auto [shape, axis] = GENERATE(std::pair<Shape, std::size_t>{{40, 33}, 0},
                                        std::pair<Shape, std::size_t>{{7, 50}, 1});
    const Tensor weights = test::randomTensor(shape, 11);
    const auto quantized = quantizeWeights(weights.data<float>(), groupedLayout(shape, axis, 16),
                                           ruleOf(bits, symmetry, scaleType));
    REQUIRE(quantized);
    CHECK(isTernary(quantized->rule) == (bits == 2));
    for (const auto* stored : {&quantized->scales, &quantized->realZeros}) {
        const Tensor reals = Tensor::of<float>({static_cast<std::int64_t>(stored->size())}, std::span<const float>(*stored));
        CHECK(toFloat32(convert(reals, scaleType)) == *stored);
    }
    QuantizedWeights other = *quantized;
    const std::vector<float> values = dequantizeWeights(*quantized);
    const int low = bits == 1 ? 0 : -1, high = 1;
    for (int code = low; code <= high; ++code) {
        std::fill(other.codes.begin(), other.codes.end(), static_cast<std::uint8_t>(code));
        const std::vector<float> level = dequantizeWeights(other);
        double farther = -1;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const float w = weights.data<float>()[i];
            farther = std::max<double>(farther, std::fabs(values[i] - w) - std::fabs(level[i] - w));
        }
        CHECK(farther < 1e-8);
    }
}

TEST_CASE("Weights come back within half a step, at every width, group size and symmetry") {
    const int bits = GENERATE(8, 6, 5, 4, 3, 2);
    const Symmetry symmetry = GENERATE(Symmetry::asymmetric, Symmetry::fullRange, Symmetry::balanced);
    const std::int64_t group = GENERATE(16, 32, 64, 128, 256);
    const std::size_t axis = GENERATE(0, 1);
    const Shape shape = axis == 0 ? Shape{300, 5} : Shape{5, 300};
    const Tensor tensor = test::randomTensor(shape, static_cast<std::uint64_t>(group + bits));
    const auto weights = tensor.data<float>();
    QuantizationRule rule = ruleOf(bits, symmetry, DType::float16);
    rule.range = RangeChoice::minmax;
    const auto quantized = quantizeWeights(weights, groupedLayout(shape, axis, group), rule);
    REQUIRE(quantized);
    const std::vector<float> values = dequantizeWeights(*quantized);
    const auto& layout = quantized->layout;
    double worst = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const auto at = static_cast<std::int64_t>(i);
        const std::int64_t along = at / layout.inner % layout.axis;
        const std::int64_t place = (at / layout.inner / layout.axis * layout.blocks() + along / group) *
                                       layout.inner + at % layout.inner;
        const float step = std::fabs(quantized->scales[static_cast<std::size_t>(place)]);
        // A full range leaves out half a step at the end that has one code less.
        const float bound = symmetry == Symmetry::fullRange ? step : step / 2;
        worst = std::max<double>(worst, std::fabs(values[i] - weights[i]) / bound);
    }
    CHECK(worst < 1.001);
    CHECK(worst > 0.4);
}
