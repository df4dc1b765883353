// Moving codebooks about: nothing that moves makes the layer's output worse, and where it ends nothing that moves by
// itself makes it better.

#include "passes/quantize/codebook/codebook_descent.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "lib/support/parallel.h"
#include "passes/quantize/codebook/codebook_fit.h"
#include "passes/quantize/codebook/vector_codebook.h"
#include "passes/quantize/grid/group_quantizer.h"
#include "passes/quantize/grid/levels.h"
#include "passes/quantize/solver/output_error.h"
#include "tests/unit/passes/noise.h"
#include "tests/unit/passes/weight_models.h"

using namespace tcompress;
using namespace tcompress::passes;

namespace {

constexpr std::int64_t kInputs = 48, kChannels = 70;

/// A layer and the second moment of inputs whose neighbours move together.
struct Layer {
    Tensor tensor = test::randomTensor({kChannels, kInputs}, 3);
    std::vector<float> byInput;
    std::vector<double> moment = test::correlatedMoment(kInputs, 300, 5);

    Layer() : byInput(transposed(tensor.data<float>(), kChannels, kInputs)) {}

    WeightMatrix matrix() const {
        return {tensor.data<float>(), kChannels, kInputs, std::vector<float>(static_cast<std::size_t>(kInputs), 1.0F)};
    }

    double loss(const CodebookMatrix& codes) const {
        return relativeOutputError(tensor.data<float>(), codes.decoded(), groupedLayout({kChannels, kInputs}, 1, kInputs),
                                   moment);
    }

    CodebookMatrix byFeedback(CodebookMatrix codes) const {
        ErrorFeedback problem;
        problem.weights = byInput;
        problem.channels = kChannels;
        chooseByFeedback(codes, problem, moment, 0.01);
        return codes;
    }
};

struct Kind {
    CodebookMatrix codes;
    Entries entries;
};

std::vector<Kind> kinds(const Layer& layer) {
    const WeightMatrix matrix = layer.matrix();
    return {{withLevels(matrix, normalFloatLevels(3), 16), Entries::fixed},
            {withBestLevels(matrix, 8), Entries::moved},
            {withVectors(matrix, {2, 32, 1}, Random(1, "test")), Entries::moved},
            {withVectors(matrix, {4, 16, 2}, Random(1, "test")), Entries::moved},
            {withVectors(matrix, {8, 16, 2}, Random(1, "test")), Entries::moved}};
}

}  // namespace

TEST_CASE("Moving codebooks about brings outputs nearer than error feedback, the same for any number of threads") {
    const Layer layer;
    const auto which = static_cast<std::size_t>(GENERATE(range(0, 5)));
    const Kind kind = kinds(layer)[which];
    const CodebookMatrix start = layer.byFeedback(kind.codes);
    double before = layer.loss(start);
    for (const std::int64_t sweeps : {1, 2, 8}) {
        CodebookMatrix moved = start;
        descend(moved, {layer.byInput, layer.moment, kind.entries, sweeps});
        const double after = layer.loss(moved);
        INFO("kind " << which << ", " << sweeps << " sweeps: " << before << " to " << after);
        CHECK(after < before);
        before = after;
        CodebookMatrix single = start;
        const int threads = threadCount();
        setThreadCount(1);
        descend(single, {layer.byInput, layer.moment, kind.entries, sweeps});
        setThreadCount(threads);
        CHECK(single.decoded() == moved.decoded());
    }
    CHECK(before < 0.97 * layer.loss(start));
}

TEST_CASE("Where descent ends no number, no scale and no entry by itself is better elsewhere") {
    const Layer layer;
    const auto which = static_cast<std::size_t>(GENERATE(range(0, 5)));
    const Kind kind = kinds(layer)[which];
    CodebookMatrix codes = layer.byFeedback(kind.codes);
    descend(codes, {layer.byInput, layer.moment, kind.entries, 100});
    const double loss = layer.loss(codes);
    double least = loss;
    const auto consider = [&](const CodebookMatrix& other) { least = std::min(least, layer.loss(other)); };
    Random random(9, "tries");
    for (int attempt = 0; attempt < 400; ++attempt) {
        CodebookMatrix other = codes;
        CodebookStage& stage = other.stages[random.below(other.stages.size())];
        stage.codes[random.below(stage.codes.size())] =
            static_cast<std::uint16_t>(random.below(static_cast<std::uint64_t>(codes.size)));
        consider(other);
        if (kind.entries == Entries::fixed) continue;
        other = codes;
        std::vector<float>& entries = other.stages[random.below(other.stages.size())].entries;
        float& entry = entries[random.below(entries.size())];
        entry = roundedToHalf(entry * (random.below(2) == 0 ? 1.02F : 0.98F));
        consider(other);
    }
    for (std::size_t i = 0; i < codes.scales.size(); ++i)
        for (const float factor : {0.99F, 1.01F}) {
            CodebookMatrix other = codes;
            other.scales[i] = roundedToHalf(other.scales[i] * factor);
            consider(other);
        }
    INFO("kind " << which);
    // Entries and scales are rounded to float16.
    CHECK(least > loss * (1 - 1e-4));
}

TEST_CASE("Entries of codes that stay become the solution of least squares") {
    // Two entries for pieces of two weights, one channel, inputs of which the first is all that counts: the mean.
    CodebookMatrix codes;
    codes.channels = 1;
    codes.inputs = 8;
    codes.dimension = 2;
    codes.size = 2;
    codes.stages.push_back({{1, 1, -1, -1}, {0, 0, 1, 1}});
    const std::vector<float> weights{1, 1.5F, 3, 2.5F, -1, -2, -2, -4};
    std::vector<double> moment(64, 0.0);
    for (std::size_t i = 0; i < 8; ++i) moment[i * 8 + i] = 1;
    descend(codes, {weights, moment, Entries::moved, 1});
    const std::vector<float> wanted{2, 2, 2, 2, -1.5F, -3, -1.5F, -3};
    CHECK(codes.decoded() == wanted);
}
