// Levels against their definitions and against every partition, numbers against every choice, error feedback
// against what it minimises.

#include "passes/quantize/codebook/codebook_matrix.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/support/parallel.h"
#include "passes/quantize/codebook/vector_codebook.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "passes/quantize/grid/levels.h"
#include "passes/quantize/solver/output_error.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;
using test::correlatedMoment;

namespace {

constexpr double kDamp = 0.01;

/// The least Σ h (w − level)² over all partitions of the sorted points into `count` runs.
double leastError(const std::vector<double>& w, const std::vector<double>& h, std::size_t from, int count) {
    double sum = 0, weight = 0, best = HUGE_VAL;
    if (count == 1) {
        for (std::size_t i = from; i < w.size(); ++i) sum += h[i] * w[i], weight += h[i];
        double error = 0;
        for (std::size_t i = from; i < w.size(); ++i) error += h[i] * std::pow(w[i] - sum / weight, 2);
        return error;
    }
    for (std::size_t end = from + 1; end + static_cast<std::size_t>(count) - 1 <= w.size(); ++end) {
        sum += h[end - 1] * w[end - 1], weight += h[end - 1];
        double error = 0;
        for (std::size_t i = from; i < end; ++i) error += h[i] * std::pow(w[i] - sum / weight, 2);
        best = std::min(best, error + leastError(w, h, end, count - 1));
    }
    return best;
}

WeightMatrix matrixOf(const Tensor& tensor) {
    WeightMatrix matrix;
    matrix.weights = tensor.data<float>();
    matrix.channels = tensor.shape()[0];
    matrix.inputs = tensor.shape()[1];
    matrix.importance.assign(static_cast<std::size_t>(matrix.inputs), 1.0F);
    return matrix;
}

double squaredError(std::span<const float> a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < b.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
    return sum;
}

std::vector<CodebookMatrix> allKinds(const WeightMatrix& matrix) {
    std::vector<CodebookMatrix> result;
    result.push_back(withLevels(matrix, normalFloatLevels(4), 16));
    result.push_back(withLevels(matrix, powerOfTwoLevels(3), matrix.inputs));
    result.push_back(withBestLevels(matrix, 8));
    result.push_back(withVectors(matrix, {2, 64, 1}, Random(1, "test")));
    result.push_back(withVectors(matrix, {4, 16, 2}, Random(1, "test")));
    return result;
}

}  // namespace

TEST_CASE("Normal floats of 4 bits are the published table") {
    // Dettmers et al. 2023, appendix E.
    const std::vector<double> nf4 = {
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
        1.0};
    const std::vector<float> levels = normalFloatLevels(4);
    REQUIRE(levels.size() == nf4.size());
    for (std::size_t i = 0; i < nf4.size(); ++i) CHECK(std::fabs(levels[i] - nf4[i]) < 1e-6);
    for (const int bits : {2, 3, 5, 8}) {
        const std::vector<float> other = normalFloatLevels(bits);
        CHECK(other.size() == std::size_t{1} << bits);
        CHECK(std::is_sorted(other.begin(), other.end()));
        CHECK(std::count(other.begin(), other.end(), 0.0F) == 1);
    }
}

TEST_CASE("Logarithmic levels are 0 and powers of two") {
    CHECK(powerOfTwoLevels(3) == std::vector<float>{-1, -0.5, -0.25, 0, 0.125, 0.25, 0.5, 1});
    CHECK(powerOfTwoLevels(2) == std::vector<float>{-1, 0, 0.5, 1});
}

TEST_CASE("The best levels are those of the best partition") {
    const auto seed = static_cast<std::uint64_t>(GENERATE(range(0, 8)));
    const int count = GENERATE(1, 2, 3, 5);
    Random random(seed, "levels");
    std::vector<double> w, h;
    for (int i = 0; i < 12; ++i) {
        w.push_back(static_cast<float>(random.normal()));
        h.push_back(static_cast<float>(random.uniform() + 0.1));
    }
    std::sort(w.begin(), w.end());
    const std::vector<float> weights(w.begin(), w.end()), importance(h.begin(), h.end());
    const std::vector<float> levels = bestLevels(weights, importance, count);
    std::vector<std::uint16_t> places(weights.size());
    nearestLevels(weights, levels, places.data());
    double error = 0;
    for (std::size_t i = 0; i < w.size(); ++i) error += h[i] * std::pow(w[i] - levels[places[i]], 2);
    CHECK(error == Approx(leastError(w, h, 0, count)).epsilon(1e-5));
}

TEST_CASE("More levels than different weights: all are exact") {
    const std::vector<float> weights{2, -1, 2, 0.5F, -1}, importance{1, 0, 1, 1, 1};
    const std::vector<float> levels = bestLevels(weights, importance, 8);
    CHECK(levels.size() == 8);
    for (const float w : weights) CHECK(std::count(levels.begin(), levels.end(), w) > 0);
}

TEST_CASE("Numbers name the nearest entries") {
    const Tensor tensor = test::randomTensor({12, 48}, 3);
    const WeightMatrix matrix = matrixOf(tensor);
    const auto which = static_cast<std::size_t>(GENERATE(range(0, 4)));  // two stages are greedy
    const CodebookMatrix codes = allKinds(matrix)[which];
    const std::vector<float> chosen = codes.decoded();
    const auto pieceError = [&](const std::vector<float>& values, std::int64_t channel, std::int64_t piece) {
        double sum = 0;
        for (std::int64_t k = 0; k < codes.dimension; ++k) {
            const auto i = static_cast<std::size_t>(channel * codes.inputs + piece * codes.dimension + k);
            sum += std::pow(static_cast<double>(matrix.weights[i]) - values[i], 2);
        }
        return sum;
    };
    double gained = 0;
    CodebookMatrix other = codes;
    for (std::int64_t code = 0; code < codes.size; ++code) {
        std::fill(other.stages[0].codes.begin(), other.stages[0].codes.end(), static_cast<std::uint16_t>(code));
        const std::vector<float> values = other.decoded();
        for (std::int64_t channel = 0; channel < codes.channels; ++channel)
            for (std::int64_t piece = 0; piece < codes.pieces(); ++piece)
                gained = std::max(gained, pieceError(chosen, channel, piece) - pieceError(values, channel, piece));
    }
    CHECK(gained < 1e-8);
}

TEST_CASE("Scales, levels and entries are exact in float16") {
    const Tensor tensor = test::randomTensor({12, 48}, 3);
    for (const CodebookMatrix& codes : allKinds(matrixOf(tensor))) {
        const auto isHalf = [](float value) { return toFloat(toHalf(value)) == value; };
        CHECK(std::all_of(codes.scales.begin(), codes.scales.end(), isHalf));
        for (const CodebookStage& stage : codes.stages)
            CHECK(std::all_of(stage.entries.begin(), stage.entries.end(), isHalf));
    }
}

TEST_CASE("The more a codebook adapts, the closer it is") {
    const Tensor tensor = test::randomTensor({64, 128}, 9);
    const WeightMatrix matrix = matrixOf(tensor);
    const auto errorOf = [&](const CodebookMatrix& codes) { return squaredError(matrix.weights, codes.decoded()); };
    const double logarithmic = errorOf(withLevels(matrix, powerOfTwoLevels(4), 64));
    const double normal = errorOf(withLevels(matrix, normalFloatLevels(4), 64));
    const double means = errorOf(withBestLevels(matrix, 16));
    CHECK(normal < logarithmic);
    CHECK(means < normal);
    CHECK(errorOf(withVectors(matrix, {4, 16, 2}, Random(1, "test"))) <
          errorOf(withVectors(matrix, {4, 16, 1}, Random(1, "test"))));
}

TEST_CASE("Error feedback brings the layer's output nearer, with every codebook and any number of threads") {
    const Tensor tensor = test::randomTensor({70, 48}, 3);
    const WeightMatrix matrix = matrixOf(tensor);
    const auto h = correlatedMoment(48, 300, 5);
    const auto layout = groupedLayout({70, 48}, 1, 48);
    const std::vector<float> byInput = byInputChannel(matrix.weights, layout);
    const auto which = static_cast<std::size_t>(GENERATE(range(0, 5)));
    CodebookMatrix codes = allKinds(matrix)[which];
    const double nearest = relativeOutputError(matrix.weights, codes.decoded(), layout, h);
    ErrorFeedback problem;
    problem.weights = byInput;
    problem.channels = 70;
    problem.blockSize = GENERATE(10, 128);
    CodebookMatrix single = codes;
    chooseByFeedback(codes, problem, h, kDamp);
    CHECK(relativeOutputError(matrix.weights, codes.decoded(), layout, h) < 0.9 * nearest);
    const int threads = threadCount();
    setThreadCount(1);
    chooseByFeedback(single, problem, h, kDamp);
    setThreadCount(threads);
    for (std::size_t i = 0; i < codes.stages.size(); ++i)
        CHECK(single.stages[i].codes == codes.stages[i].codes);
}

TEST_CASE("Uncorrelated inputs of one size leave nothing to repay: numbers are those of the nearest entries") {
    const Tensor tensor = test::randomTensor({20, 48}, 4);
    const WeightMatrix matrix = matrixOf(tensor);
    std::vector<double> h(48 * 48, 0.0);
    for (std::size_t i = 0; i < 48; ++i) h[i * 48 + i] = 4;
    const std::vector<float> byInput = byInputChannel(matrix.weights, groupedLayout({20, 48}, 1, 48));
    for (CodebookMatrix codes : allKinds(matrix)) {
        const CodebookMatrix before = codes;
        ErrorFeedback problem;
        problem.weights = byInput;
        problem.channels = 20;
        chooseByFeedback(codes, problem, h, kDamp);
        std::size_t different = 0, all = 0;
        for (std::size_t i = 0; i < codes.stages.size(); ++i)
            for (std::size_t j = 0; j < codes.stages[i].codes.size(); ++j, ++all)
                different += codes.stages[i].codes[j] != before.stages[i].codes[j];
        CHECK(different * 500 <= all);  // points as near to one entry as to another
    }
}
